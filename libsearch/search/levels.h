// Level of a key in a family: the first candidate whose threshold its estimate exceeds.
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

class LevelTable {
 public:
  // Falling thresholds, at most 254.
  explicit LevelTable(std::vector<float> thresholds);
  [[nodiscard]] int levels() const { return levels_; }
  // level [keys]: levels() where no threshold is exceeded.
  void assign(const float* e, int64_t keys, uint8_t* level) const;

 private:
  int levels_ = 0;
  bool crowded_ = false;                     // some bin holds more than one threshold
  std::vector<float> thresholds_;            // and a last one that nothing stays below
  std::array<uint8_t, kFloatBins> start_{};  // thresholds that everything in a bin stays below
};

// counts [levels + 1]: the keys of each level.
void count_levels(const uint8_t* level, int64_t keys, std::span<int32_t> counts);

// sums [levels + 1] <- the mass of each level's keys.
void sum_levels(const uint8_t* level, const float* mass, int64_t keys, std::span<double> sums);

// Moves keys to the candidate whose last tile they fill (runtime::fill_tile).
class TileFiller {
 public:
  explicit TileFiller(int most_levels);
  // level [keys] and counts [levels + 1]: as from LevelTable and count_levels; both are updated.
  void fill(const float* e, int64_t keys, uint8_t* level, std::span<int32_t> counts);

 private:
  struct Key {
    float e = 0;
    int32_t j = 0;
  };
  // A level gives at most 63 keys: the best of those seen are kept in twice the room.
  static constexpr int kRoom = 128;
  struct Level {
    float cutoff = 0;  // keys below it are not among the best `wanted`
    int wanted = 0;
    int held = 0;
    uint8_t candidate = 0;  // that they go to
    std::array<Key, kRoom> best;
    void trim();
  };
  std::vector<Level> levels_;
};

}  // namespace mi::search
