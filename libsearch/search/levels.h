// Levels: the first candidate of a family that selects a key. Candidates are nested, so that each
// takes a number of keys from the front of one order: forced keys, then the others by falling
// estimate, equal ones by rising index.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace mi::search {

// Positive floats in bins, eight an octave, ordered like the floats.
inline constexpr size_t kFloatBins = 2048;
[[nodiscard]] inline size_t float_bin(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7fffffffU) >> 20;
}

// Bins of estimates in falling order: 32 an octave, and every threshold parts two.
class LevelTable {
 public:
  // Falling thresholds, at most 254.
  explicit LevelTable(const std::vector<float>& thresholds);
  [[nodiscard]] int levels() const { return static_cast<int>(above_.size()); }
  [[nodiscard]] size_t bins() const { return limit_.size(); }
  // The first bin whose keys do not exceed a candidate's threshold.
  [[nodiscard]] size_t first_below(int candidate) const {
    return above_[static_cast<size_t>(candidate)];
  }
  void assign(const float* e, int64_t keys, uint16_t* bin) const;

 private:
  static constexpr size_t kRawBins = 1 << 13;
  bool crowded_ = false;         // some raw bin holds more than one threshold
  std::vector<uint16_t> above_;  // [levels]
  std::vector<float> limit_;     // [bins] that a bin's keys exceed, where a threshold parts it
  std::array<uint16_t, kRawBins> start_{};  // the first bin of floats with equal upper 14 bits
};

// counts [bins]: the keys of each bin.
void count_bins(const uint16_t* bin, int64_t keys, std::span<int32_t> counts);
// sums [levels + 1] <- the mass of each level's keys.
void sum_levels(const uint8_t* level, const float* mass, int64_t keys, std::span<double> sums);

// A row block's estimates in bins; families that differ in forced keys only share them.
struct BinnedKeys {
  const LevelTable* table = nullptr;
  const float* e = nullptr;         // [keys]
  const uint16_t* bin = nullptr;    // [keys]
  std::span<const int32_t> counts;  // [bins]
  int64_t keys = 0;
};

// Levels of keys, once every candidate's last tile is filled up (runtime::fill_tile).
class Leveller {
 public:
  // level [keys] and counts [levels + 1] of a family that forces all but keys [begin, end).
  void assign(const BinnedKeys& keys, int64_t begin, int64_t end, bool fill, uint8_t* level,
              std::span<int32_t> counts);

 private:
  struct Key {
    float e = 0;
    int32_t j = 0;
  };
  struct Cut {           // a bin whose keys are of more than one level
    int64_t before = 0;  // keys ahead of it in order
    int64_t size = 0;
    size_t first = 0;  // of keys_
    size_t placed = 0;
    uint8_t candidate = 0;  // the first that takes some
  };
  void part(const Cut& cut, uint8_t* level);
  std::vector<int32_t> left_;      // [bins] keys that are not forced
  std::vector<int64_t> taken_;     // [levels] keys that a candidate takes
  std::vector<uint8_t> level_of_;  // [bins]
  std::vector<uint16_t> cut_of_;   // [bins]
  std::vector<Cut> cuts_;
  std::vector<int32_t> in_cuts_;
  std::vector<Key> keys_;
};

}  // namespace mi::search
