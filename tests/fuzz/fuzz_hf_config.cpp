// Any bytes as config.json: one error that names the file, or sizes within their bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "libsearch/model/hf_config.h"
#include "libsearch/model/spec_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto spec = mi::search::parse_hf_config(text, "fuzz");
  if (!spec) {
    if (spec.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  const bool good = spec->layers >= 1 && spec->layers <= mi::search::kMaxLayers &&
                    spec->heads % spec->kv_heads == 0 && spec->head_dim % 2 == 0 &&
                    spec->rope.theta > 1;
  if (!good) std::abort();
  return 0;
}
