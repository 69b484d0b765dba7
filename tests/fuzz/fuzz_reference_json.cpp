// Any bytes: the reader of published head files gives one error that names the file, or a config
// that the runtime takes and that comes back as it was.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "libsearch/report/reference_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mi::runtime::HeadConfig::Model model;
  model.name = "m";
  model.architecture = "llama";
  model.layers = 2;
  model.heads = 2;
  model.kv_heads = 1;
  model.head_dim = 8;
  model.rope_theta = 1;
  model.fingerprint = "x";
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto config = mi::search::from_reference(json, "fuzz", model);
  if (!config) {
    if (config.error().what.rfind("fuzz", 0) != 0) std::abort();
    return 0;
  }
  if (!mi::runtime::parse_config(mi::runtime::dump_config(*config), "dumped")) std::abort();
  const auto text = mi::search::to_reference(*config, 4096);
  const auto again = mi::search::from_reference(text.json, "fuzz", model);
  if (!text.lost.empty() || !again || again->layers != config->layers) std::abort();
  return 0;
}
