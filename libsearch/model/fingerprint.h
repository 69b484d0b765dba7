// A digest that tells models apart without reading all of their weights.
#pragma once

#include <string>

#include "kernels/status.h"
#include "libsearch/model/model.h"
#include "libsearch/model/weights.h"

namespace mi::search {

// "sha256:..." over the description (without name), every tensor's name, type and shape, and the
// first 4 KiB of its data. Neither path nor the order of tensors in the file counts.
[[nodiscard]] Result<std::string> fingerprint(const ModelSpec& spec, const TensorTable& tensors);

}  // namespace mi::search
