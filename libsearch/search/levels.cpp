#include "libsearch/search/levels.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "libruntime/cost.h"

namespace mi::search {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNoKey = std::numeric_limits<float>::quiet_NaN();  // a cutoff that none reaches

constexpr int64_t kChunk = 64;
// Whether a whole chunk of keys shares a level: most do, of blocks, of windows and far away.
bool is_level(const uint8_t* level) {
  const uint64_t same = level[0] * uint64_t{0x0101010101010101};
  uint64_t other = 0;
  for (int64_t at = 0; at < kChunk; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, level + at, 8);
    other |= word ^ same;
  }
  return other == 0;
}

}  // namespace

LevelTable::LevelTable(std::vector<float> thresholds)
    : levels_(static_cast<int>(thresholds.size())), thresholds_(std::move(thresholds)) {
  for (size_t i = 1; i < thresholds_.size(); ++i)
    crowded_ = crowded_ || float_bin(thresholds_[i]) == float_bin(thresholds_[i - 1]);
  for (size_t bin = 0; bin < start_.size(); ++bin) {
    const auto next = static_cast<uint32_t>(bin + 1) << 20;
    const float upper = next >= 0x7f800000U ? kInfinity : std::bit_cast<float>(next);
    uint8_t below = 0;
    while (below < thresholds_.size() && upper <= thresholds_[below]) ++below;
    start_[bin] = below;
  }
  thresholds_.push_back(-kInfinity);
}

void LevelTable::assign(const float* e, int64_t keys, uint8_t* level) const {
  // A bin mostly holds one threshold at most, and one comparison without a branch is enough.
  for (int64_t j = 0; j < keys; ++j) {
    const uint8_t start = start_[float_bin(e[j])];
    level[j] = static_cast<uint8_t>(start + (e[j] > thresholds_[start] ? 0 : 1));
  }
  if (!crowded_) return;
  for (int64_t j = 0; j < keys; ++j)
    while (level[j] < levels_ && !(e[j] > thresholds_[level[j]])) ++level[j];
}

void count_levels(const uint8_t* level, int64_t keys, std::span<int32_t> counts) {
  // Neighbours often share a level: four tables, so that no count waits for the one before.
  std::array<std::array<int32_t, 256>, 4> tables{};
  for (int64_t begin = 0; begin < keys; begin += kChunk) {
    const int64_t end = std::min(keys, begin + kChunk);
    if (end - begin == kChunk && is_level(level + begin)) {
      tables[0][level[begin]] += kChunk;
      continue;
    }
    for (int64_t j = begin; j < end; ++j) ++tables[static_cast<size_t>(j % 4)][level[j]];
  }
  for (size_t l = 0; l < counts.size(); ++l)
    counts[l] = tables[0][l] + tables[1][l] + tables[2][l] + tables[3][l];
}

void sum_levels(const uint8_t* level, const float* mass, int64_t keys, std::span<double> sums) {
  std::array<std::array<double, 256>, 4> tables;
  for (auto& table : tables) std::fill_n(table.begin(), sums.size(), 0);
  for (int64_t begin = 0; begin < keys; begin += kChunk) {
    const int64_t end = std::min(keys, begin + kChunk);
    if (end - begin == kChunk && is_level(level + begin)) {
      std::array<float, 4> parts{};
      for (int64_t j = begin; j < end; j += 4)
        for (size_t i = 0; i < 4; ++i) parts[i] += mass[j + static_cast<int64_t>(i)];
      tables[0][level[begin]] += static_cast<double>(parts[0] + parts[1] + parts[2] + parts[3]);
      continue;
    }
    for (int64_t j = begin; j < end; ++j)
      tables[static_cast<size_t>(j % 4)][level[j]] += static_cast<double>(mass[j]);
  }
  for (size_t l = 0; l < sums.size(); ++l)
    sums[l] = tables[0][l] + tables[1][l] + tables[2][l] + tables[3][l];
}

TileFiller::TileFiller(int most_levels) : levels_(static_cast<size_t>(most_levels) + 1) {}

// Keeps the best `wanted`: of equal ones the first.
void TileFiller::Level::trim() {
  const auto better = [](const Key& a, const Key& b) { return a.e != b.e ? a.e > b.e : a.j < b.j; };
  if (held > wanted)
    std::nth_element(best.begin(), best.begin() + wanted - 1, best.begin() + held, better);
  held = std::min(held, wanted);
  if (held == wanted) cutoff = best[static_cast<size_t>(wanted) - 1].e;
}

void TileFiller::fill(const float* e, int64_t keys, uint8_t* level, std::span<int32_t> counts) {
  // The candidate that first reaches `filled` keys, a whole number of tiles: what it has room for
  // is the best of the next level, and of the one after if that is not enough.
  int32_t filled = 0;
  int32_t end = 0;
  uint8_t candidate = 0;
  bool any = false;
  for (size_t l = 0; l < counts.size(); ++l) {
    Level& own = levels_[l];
    own.wanted = std::min(filled - end, counts[l]);
    own.held = 0;
    own.cutoff = own.wanted > 0 ? -kInfinity : kNoKey;
    own.candidate = candidate;
    any = any || own.wanted > 0;
    end += counts[l];
    const auto whole = static_cast<int32_t>(runtime::tiles_for(end) * kernels::kKeyTile);
    if (whole > filled) {
      filled = whole;
      candidate = static_cast<uint8_t>(l);
    }
  }
  if (!any) return;
  // Backwards, as the estimates of a window rise with j and would all be the best so far. Of equal
  // keys the first is better, so those at the cutoff are still looked at.
  for (int64_t j = keys - 1; j >= 0; --j) {
    Level& own = levels_[level[j]];
    if (!(e[j] >= own.cutoff)) continue;
    own.best[static_cast<size_t>(own.held++)] = {e[j], static_cast<int32_t>(j)};
    if (own.held == kRoom) own.trim();
  }
  for (size_t l = 0; l < counts.size(); ++l) {
    Level& own = levels_[l];
    if (own.wanted == 0) continue;
    own.trim();
    for (int i = 0; i < own.held; ++i) level[own.best[static_cast<size_t>(i)].j] = own.candidate;
    counts[l] -= own.held;
    counts[own.candidate] += own.held;
  }
}

}  // namespace mi::search
