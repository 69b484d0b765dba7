// Level of a key in a family: the first candidate whose threshold its estimate exceeds.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mi::search {

class LevelTable {
 public:
  // Falling thresholds, at most 254.
  explicit LevelTable(std::vector<float> thresholds);
  [[nodiscard]] int levels() const { return static_cast<int>(thresholds_.size()); }
  // levels() when no threshold is exceeded.
  [[nodiscard]] int level(float e) const {
    int level = start_[bin(e)];
    while (level < levels() && !(e > thresholds_[static_cast<size_t>(level)])) ++level;
    return level;
  }

 private:
  static size_t bin(float e);
  std::vector<float> thresholds_;
  std::array<uint8_t, 2048> start_{};  // thresholds that everything in a bin stays below
};

// Moves keys to the candidate whose last tile they fill (runtime::fill_tile). level [keys]: as from
// LevelTable; order: scratch [keys].
void fill_tiles(const float* e, int64_t keys, int levels, uint8_t* level,
                std::vector<int32_t>& order);

}  // namespace mi::search
