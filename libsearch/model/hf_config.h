// config.json of a Hugging Face directory.
#pragma once

#include <string>
#include <string_view>

#include "kernels/status.h"
#include "libsearch/model/model.h"

namespace mi::search {

// Everything of the spec but name and fingerprint. What the file asks for and the decoder does not
// do (biases, scaled rotary embedding, quantised weights, ...) is refused by name.
[[nodiscard]] Result<ModelSpec> parse_hf_config(std::string_view text, const std::string& file);

}  // namespace mi::search
