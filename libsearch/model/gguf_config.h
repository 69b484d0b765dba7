// The model description that a GGUF file's metadata holds.
#pragma once

#include "kernels/status.h"
#include "libsearch/model/gguf.h"
#include "libsearch/model/model.h"

namespace mi::search {

// Everything of the spec but the fingerprint; name is empty when the file gives itself none.
[[nodiscard]] Result<ModelSpec> read_gguf_config(const GgufFile& file);

}  // namespace mi::search
