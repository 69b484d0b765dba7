// Any bytes: the reader of device profiles gives one error, or a profile whose text reads back as
// itself and whose times are numbers.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "libsearch/search/device_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto profile = mi::search::parse_profile(text, "fuzz");
  if (!profile) {
    if (profile.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  const auto back = mi::search::parse_profile(mi::search::dump_profile(*profile), "fuzz");
  if (!back || !(*back == *profile)) std::abort();
  mi::runtime::EstimatorParams params;
  params.pattern = mi::runtime::Pattern::stripe;
  for (const auto& times : profile->head_dims)
    if (!std::isfinite(times.head_ms({8192, 8192, times.head_dim}, params, 1e6))) std::abort();
  return 0;
}
