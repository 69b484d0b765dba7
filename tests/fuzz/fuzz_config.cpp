// Any bytes: the config reader gives one error, or a config whose text reads back as itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "libruntime/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = mi::runtime::parse_config(text, "fuzz");
  if (!config) {
    if (config.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  const std::string canonical = mi::runtime::dump_config(*config);
  const auto back = mi::runtime::parse_config(canonical, "fuzz");
  if (!back || mi::runtime::dump_config(*back) != canonical) std::abort();
  return 0;
}
