#include "libsearch/search/levels.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "libruntime/cost.h"

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

void fill_tiles(const float* e, int64_t keys, int levels, uint8_t* level,
                std::vector<int32_t>& order) {
  // Keys by level, in index order within one.
  std::array<int32_t, 257> start{};
  for (int64_t j = 0; j < keys; ++j) ++start[level[j] + 1U];
  for (size_t l = 1; l < start.size(); ++l) start[l] += start[l - 1];
  order.resize(static_cast<size_t>(keys));
  std::array<int32_t, 257> next = start;
  for (int64_t j = 0; j < keys; ++j)
    order[static_cast<size_t>(next[level[j]]++)] = static_cast<int32_t>(j);

  const auto better = [e](int32_t a, int32_t b) { return e[a] != e[b] ? e[a] > e[b] : a < b; };
  // The candidate that first reaches `filled` keys, a whole number of tiles: what it has room for
  // is the best of the next level, and of the one after if that is not enough.
  int32_t filled = 0;
  size_t candidate = 0;
  for (size_t l = 0; l <= static_cast<size_t>(levels); ++l) {
    const int32_t begin = start[l];
    const int32_t end = start[l + 1];
    if (begin < filled) {
      const int32_t middle = std::min(filled, end);
      if (middle < end)
        std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end,
                         better);
      for (int32_t i = begin; i < middle; ++i)
        level[order[static_cast<size_t>(i)]] = static_cast<uint8_t>(candidate);
    }
    const auto whole = static_cast<int32_t>(runtime::tiles_for(end) * kernels::kKeyTile);
    if (whole > filled) {
      filled = whole;
      candidate = l;
    }
  }
}

}  // namespace mi::search
