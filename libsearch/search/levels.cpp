#include "libsearch/search/levels.h"

#include <bit>
#include <limits>
#include <utility>

namespace mi::search {

// Sign-free exponent and three mantissa bits: eight bins an octave, ordered like the floats.
size_t LevelTable::bin(float e) {
  return (std::bit_cast<uint32_t>(e) & 0x7fffffffU) >> 20;
}

LevelTable::LevelTable(std::vector<float> thresholds) : thresholds_(std::move(thresholds)) {
  for (size_t bin = 0; bin < start_.size(); ++bin) {
    const auto next = static_cast<uint32_t>(bin + 1) << 20;
    const float upper =
        next >= 0x7f800000U ? std::numeric_limits<float>::infinity() : std::bit_cast<float>(next);
    uint8_t below = 0;
    while (below < thresholds_.size() && upper <= thresholds_[below]) ++below;
    start_[bin] = below;
  }
}

}  // namespace mi::search
