// From estimates to the keys of a row block: one threshold rule for every pattern, and the
// histogram that finds the threshold which spends a given cost.
#pragma once

#include <cstdint>
#include <span>

#include "libruntime/cost.h"

namespace mi::runtime {

// Sets bit j iff e[j] > lambda; words [bitmap_words(keys)]. Returns the number of selected keys.
int64_t select_keys(const float* e, int64_t keys, float lambda, uint64_t* words);

// Eight bins per octave from 2^-32 to 2^32; forced keys (+inf) fall in the last one.
inline constexpr int kHistogramBins = 64 * 8;

void count_bins(const float* e, int64_t keys, uint32_t* bins);

// The smallest bin edge above which the row blocks cost at most `tiles`, as a lambda for
// select_keys. Forced keys are always kept. bins: [row_blocks, kHistogramBins].
[[nodiscard]] float lambda_for_tiles(std::span<const uint32_t> bins, int64_t tiles);

}  // namespace mi::runtime
