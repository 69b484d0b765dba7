#include "libruntime/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace mi::runtime {
namespace {

// Exponent and the three highest bits of the mantissa order positive floats into bins.
constexpr int kShift = 20;
constexpr int kFirst = (127 - 32) * 8;

int bin_of(float e) {
  return std::clamp(static_cast<int>(std::bit_cast<uint32_t>(e) >> kShift) - kFirst, 0,
                    kHistogramBins - 1);
}

template <class Steps>
void count_steps(std::span<const uint64_t> words, uint32_t* counts, const Steps& steps) {
  // Most keys have the same count: four tables, so that none waits for the one before.
  std::array<std::array<uint32_t, kRaises + 1>, 4> tables{};
  size_t table = 0;
  for (size_t word = 0; word < words.size(); ++word)
    for (uint64_t left = words[word]; left != 0; left &= left - 1)
      ++tables[table++ % 4][static_cast<size_t>(
          steps(static_cast<int64_t>(word) * 64 + std::countr_zero(left)))];
  for (size_t i = 0; i <= kRaises; ++i)
    counts[i] = tables[0][i] + tables[1][i] + tables[2][i] + tables[3][i];
}

}  // namespace

int64_t select_keys(const kernels::Backend& backend, const float* e, int64_t keys, float lambda,
                    uint64_t* words) {
  int64_t selected = 0;
  for (int64_t begin = 0; begin < keys; begin += 64) {
    words[begin / 64] = backend.above(e + begin, std::min<int64_t>(64, keys - begin), lambda);
    selected += std::popcount(words[begin / 64]);
  }
  return selected;
}

int64_t fill_tile(const kernels::Backend& backend, const float* e, int64_t keys, int64_t selected,
                  uint64_t* words) {
  const int64_t room = std::min(tiles_for(selected) * kernels::kKeyTile, keys) - selected;
  if (room == 0) return selected;
  // The best so far, the least of them on top: the latest of equal ones.
  using Key = std::pair<float, int64_t>;
  std::array<Key, kernels::kKeyTile> best;
  int64_t held = 0;
  const auto better = [](const Key& a, const Key& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  for (int64_t begin = 0; begin < keys; begin += 64) {
    const float least = held == room ? best[0].first : -1.0f;
    uint64_t left =
        backend.above(e + begin, std::min<int64_t>(64, keys - begin), least) & ~words[begin / 64];
    for (; left != 0; left &= left - 1) {
      const int64_t j = begin + std::countr_zero(left);
      if (held == room && !(e[j] > best[0].first)) continue;
      if (held == room) std::pop_heap(best.begin(), best.begin() + held--, better);
      best[static_cast<size_t>(held++)] = {e[j], j};
      std::push_heap(best.begin(), best.begin() + held, better);
    }
  }
  for (int64_t i = 0; i < held; ++i) {
    const int64_t j = best[static_cast<size_t>(i)].second;
    words[j / 64] |= uint64_t{1} << (j % 64);
  }
  return selected + held;
}

int64_t select_keys(const kernels::Backend& backend, const uint8_t* code, int64_t keys,
                    uint64_t* words) {
  return backend.codes_from(code, keys, kernels::kCodeAtThreshold, words);
}

int64_t fill_tile(const kernels::Backend& backend, const uint8_t* code, int64_t keys,
                  int64_t selected, uint64_t* words) {
  const int64_t wanted = std::min(tiles_for(selected) * kernels::kKeyTile, keys);
  if (wanted == selected) return selected;
  // The largest code from which there are enough keys: mostly the next or the one after.
  int low = 0;
  int high = kernels::kCodeAtThreshold;  // too few from here
  for (int step = 1; step < high; step *= 2) {
    const int guess = kernels::kCodeAtThreshold - step;
    if (backend.codes_from(code, keys, static_cast<uint8_t>(guess), nullptr) >= wanted) {
      low = guess;
      break;
    }
    high = guess;
  }
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    const bool enough =
        backend.codes_from(code, keys, static_cast<uint8_t>(middle), nullptr) >= wanted;
    (enough ? low : high) = middle;
  }
  int64_t missing = wanted - backend.codes_from(code, keys, static_cast<uint8_t>(high), words);
  for (int64_t begin = 0; missing > 0; begin += 64) {
    uint64_t& word = words[begin / 64];
    uint64_t from_low = 0;
    (void)backend.codes_from(code + begin, std::min<int64_t>(64, keys - begin),
                             static_cast<uint8_t>(low), &from_low);
    uint64_t left = from_low & ~word;
    for (; left != 0 && missing > 0; left &= left - 1, --missing) word |= left & -left;
  }
  return wanted;
}

bool faster_dense(std::span<const uint64_t> words, int64_t keys, double gather_price) {
  int64_t in_runs = 0;
  int64_t selected = 0;
  for (const uint64_t word : words) {
    selected += std::popcount(word);
    in_runs += (static_cast<uint32_t>(word) == ~uint32_t{0} ? 32 : 0) +
               (word >> 32 == ~uint32_t{0} ? 32 : 0);
  }
  return static_cast<double>(in_runs) + gather_price * static_cast<double>(selected - in_runs) >=
         static_cast<double>(keys);
}

float raised(float lambda, int steps) {
  return lambda * std::exp2(static_cast<float>(steps) / 8);
}

void count_raises(const float* e, float lambda, std::span<const uint64_t> words, uint32_t* counts) {
  std::array<float, kRaises> limits{};
  for (int i = 0; i < kRaises; ++i) limits[static_cast<size_t>(i)] = raised(lambda, i + 1);
  count_steps(words, counts, [&](int64_t j) {
    int steps = 0;
    for (const float limit : limits) steps += e[j] > limit ? 1 : 0;
    return steps;
  });
}
void count_raises(const uint8_t* code, std::span<const uint64_t> words, uint32_t* counts) {
  count_steps(words, counts, [&](int64_t j) {
    return std::min((code[j] - kernels::kCodeAtThreshold) / 2, kRaises);
  });
}

int64_t tiles_after(std::span<const uint32_t> counts, int steps) {
  int64_t total = 0;
  for (size_t block = 0; block < counts.size(); block += kRaises + 1) {
    int64_t keys = 0;
    for (int i = steps; i <= kRaises; ++i) keys += counts[block + static_cast<size_t>(i)];
    total += tiles_for(keys);
  }
  return total;
}

void count_bins(const float* e, int64_t keys, uint32_t* bins) {
  // Most keys fall in one bin: four tables, so that no count waits for the one before.
  std::array<std::array<uint32_t, kHistogramBins>, 4> tables{};
  for (int64_t j = 0; j < keys; ++j)
    ++tables[static_cast<size_t>(j % 4)][static_cast<size_t>(bin_of(e[j]))];
  for (size_t bin = 0; bin < kHistogramBins; ++bin)
    bins[bin] = tables[0][bin] + tables[1][bin] + tables[2][bin] + tables[3][bin];
}

float lambda_of_bin(int lowest) {
  if (lowest <= 0) return -1.0f;
  return std::nextafter(std::bit_cast<float>(static_cast<uint32_t>(lowest + kFirst) << kShift),
                        0.0f);
}

int64_t tiles_from_bin(std::span<const uint32_t> bins, int lowest) {
  int64_t total = 0;
  for (size_t block = 0; block < bins.size(); block += kHistogramBins) {
    int64_t keys = 0;
    for (int bin = lowest; bin < kHistogramBins; ++bin)
      keys += bins[block + static_cast<size_t>(bin)];
    total += tiles_for(keys);
  }
  return total;
}

float lambda_for_tiles(std::span<const uint32_t> bins, int64_t tiles) {
  const int64_t affordable = std::max(tiles, tiles_from_bin(bins, kHistogramBins - 1));
  int low = 0;
  int high = kHistogramBins - 1;
  while (low < high) {  // cost falls as the lowest kept bin rises
    const int middle = (low + high) / 2;
    if (tiles_from_bin(bins, middle) <= affordable) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return lambda_of_bin(low);
}

}  // namespace mi::runtime
