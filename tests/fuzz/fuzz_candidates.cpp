// Any bytes: the reader of candidate spaces gives one error, or families with falling thresholds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "libsearch/search/candidates.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto space = mi::search::parse_candidates(text, "fuzz");
  if (!space) {
    if (space.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  if (space->families.empty()) std::abort();
  for (const auto& family : space->families)
    for (size_t c = 1; c < family.values.size(); ++c)
      if (family.lambda(c) > family.lambda(c - 1)) std::abort();  // equal where floats round
  return 0;
}
