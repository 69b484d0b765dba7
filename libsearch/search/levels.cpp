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
constexpr uint8_t kCut = 255;  // no level: the bin's keys are of several
// Below the last threshold only the keys matter that fill the last candidate's tile.
constexpr size_t kBinsBelow = 4 * 32;

size_t raw_bin(float e) {
  return (std::bit_cast<uint32_t>(e) & 0x7fffffffU) >> 18;
}

// Whether one of eight keys is of a bin that is cut: few are.
bool has_cut(const uint8_t* level) {
  static_assert(kCut == 0xff);
  uint64_t word = 0;
  std::memcpy(&word, level, 8);
  return ((~word - 0x0101010101010101) & word & 0x8080808080808080) != 0;
}

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

LevelTable::LevelTable(const std::vector<float>& thresholds) {
  const size_t top = raw_bin(thresholds.front());
  const size_t low = raw_bin(thresholds.back());
  const size_t lowest = low - std::min(low, kBinsBelow);
  size_t next = 0;  // threshold
  for (size_t raw = top + 1; raw-- > lowest;) {
    start_[raw] = static_cast<uint16_t>(limit_.size());
    while (next < thresholds.size() && raw_bin(thresholds[next]) == raw) {
      if (limit_.empty() || limit_.back() != thresholds[next]) limit_.push_back(thresholds[next]);
      above_.push_back(static_cast<uint16_t>(limit_.size()));
      ++next;
    }
    crowded_ = crowded_ || limit_.size() > start_[raw] + size_t{1};
    limit_.push_back(-kInfinity);
  }
  std::fill(start_.begin(), start_.begin() + static_cast<int64_t>(lowest),
            static_cast<uint16_t>(limit_.size() - 1));
}

void LevelTable::assign(const float* e, int64_t keys, uint16_t* bin) const {
  // A raw bin mostly holds one threshold at most, and one comparison without a branch is enough.
  const uint16_t* start = start_.data();
  const float* limit = limit_.data();
  for (int64_t j = 0; j < keys; ++j) {
    const uint16_t first = start[raw_bin(e[j])];
    bin[j] = static_cast<uint16_t>(first + (e[j] > limit[first] ? 0 : 1));
  }
  if (!crowded_) return;
  for (int64_t j = 0; j < keys; ++j)
    while (!(e[j] > limit[bin[j]])) ++bin[j];
}

void count_bins(const uint16_t* bin, int64_t keys, std::span<int32_t> counts) {
  std::fill(counts.begin(), counts.end(), 0);
  // Neighbours often share a bin: a run is counted at once, so that no count waits for another.
  for (int64_t j = 0; j < keys;) {
    const int64_t begin = j;
    const uint16_t own = bin[j];
    while (j < keys && bin[j] == own) ++j;
    counts[own] += static_cast<int32_t>(j - begin);
  }
}

void sum_levels(const uint8_t* level, const float* mass, int64_t keys, std::span<double> sums) {
  // Neighbours often share a level: four tables, so that no sum waits for the one before.
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

// Gives the keys of a cut bin to the candidates that take them, in order.
void Leveller::part(const Cut& cut, uint8_t* level) {
  const auto better = [](const Key& a, const Key& b) { return a.e != b.e ? a.e > b.e : a.j < b.j; };
  const auto keys = std::span(keys_).subspan(cut.first, static_cast<size_t>(cut.size));
  size_t given = 0;
  for (size_t c = cut.candidate; given < keys.size(); ++c) {
    const auto end = c < taken_.size()
                         ? static_cast<size_t>(std::min(cut.size, taken_[c] - cut.before))
                         : keys.size();
    if (end < keys.size() && given < end)
      std::nth_element(keys.begin() + static_cast<int64_t>(given),
                       keys.begin() + static_cast<int64_t>(end) - 1, keys.end(), better);
    for (; given < end; ++given) level[keys[given].j] = static_cast<uint8_t>(c);
  }
}

void Leveller::assign(const BinnedKeys& keys, int64_t begin, int64_t end, bool fill, uint8_t* level,
                      std::span<int32_t> counts) {
  const LevelTable& table = *keys.table;
  const auto levels = static_cast<size_t>(table.levels());
  std::fill(level, level + begin, uint8_t{0});
  std::fill(level + end, level + keys.keys, uint8_t{0});
  left_.assign(keys.counts.begin(), keys.counts.end());
  for (int64_t j = 0; j < begin; ++j) --left_[keys.bin[j]];
  for (int64_t j = end; j < keys.keys; ++j) --left_[keys.bin[j]];

  taken_.resize(levels);
  int64_t above = keys.keys - (end - begin);
  size_t bin = 0;
  for (size_t c = 0; c < levels; ++c) {
    for (; bin < table.first_below(static_cast<int>(c)); ++bin) above += left_[bin];
    taken_[c] = fill ? std::min(keys.keys, runtime::tiles_for(above) * kernels::kKeyTile) : above;
    counts[c] = static_cast<int32_t>(taken_[c] - (c > 0 ? taken_[c - 1] : 0));
  }
  counts[levels] = static_cast<int32_t>(keys.keys - taken_.back());

  level_of_.resize(table.bins());
  cut_of_.resize(table.bins());
  cuts_.clear();
  size_t cut_keys = 0;
  int64_t before = keys.keys - (end - begin);
  size_t c = 0;
  for (bin = 0; bin < table.bins(); ++bin) {
    const int64_t after = before + left_[bin];
    while (c < levels && taken_[c] <= before) ++c;
    const bool cut = c < levels && taken_[c] < after;
    level_of_[bin] = cut ? kCut : static_cast<uint8_t>(c);
    if (cut) {
      cut_of_[bin] = static_cast<uint16_t>(cuts_.size());
      cuts_.push_back({before, after - before, cut_keys, cut_keys, static_cast<uint8_t>(c)});
      cut_keys += static_cast<size_t>(after - before);
    }
    before = after;
  }

  const uint8_t* level_of = level_of_.data();
  for (int64_t j = begin; j < end; ++j) level[j] = level_of[keys.bin[j]];
  in_cuts_.clear();
  in_cuts_.reserve(cut_keys);
  for (int64_t first = begin; first < end; first += 8) {
    const int64_t last = std::min(end, first + 8);
    if (last - first == 8 && !has_cut(level + first)) continue;
    for (int64_t j = first; j < last; ++j)
      if (level[j] == kCut) in_cuts_.push_back(static_cast<int32_t>(j));
  }
  keys_.resize(cut_keys);
  for (const int32_t j : in_cuts_) keys_[cuts_[cut_of_[keys.bin[j]]].placed++] = {keys.e[j], j};
  for (const Cut& cut : cuts_) part(cut, level);
}

}  // namespace mi::search
