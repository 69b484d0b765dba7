// From estimates to the keys of a row block: one threshold rule for every pattern, and the
// histogram that finds the threshold which spends a given cost.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "libruntime/cost.h"

namespace mi::runtime {

// Sets bit j iff e[j] > lambda; words [bitmap_words(keys)]. Returns the number of selected keys.
int64_t select_keys(const kernels::Backend& backend, const float* e, int64_t keys, float lambda,
                    uint64_t* words);
// The same of estimates as codes (kernels::MassCodes), whose threshold was lambda.
int64_t select_keys(const kernels::Backend& backend, const uint8_t* code, int64_t keys,
                    uint64_t* words);

// A tile is paid for whole: fills the last one with the keys of largest e among those that
// select_keys left out, equal ones by rising index. Returns the number of keys then selected: a
// multiple of 64, or all.
int64_t fill_tile(const kernels::Backend& backend, const float* e, int64_t keys, int64_t selected,
                  uint64_t* words);
int64_t fill_tile(const kernels::Backend& backend, const uint8_t* code, int64_t keys,
                  int64_t selected, uint64_t* words);

// Whether a row block's keys would take longer than all of them in order: keys outside whole groups
// of 32 are gathered, at gather_price each.
[[nodiscard]] bool faster_dense(std::span<const uint64_t> words, int64_t keys, double gather_price);

// The threshold of a capped head may rise by at most so many steps of an eighth of an octave.
inline constexpr int kRaises = 16;
[[nodiscard]] float raised(float lambda, int steps);
// counts [kRaises + 1]: the keys of `words` by the most steps that lambda may rise and still select
// them, forced ones by the last.
void count_raises(const float* e, float lambda, std::span<const uint64_t> words, uint32_t* counts);
void count_raises(const uint8_t* code, std::span<const uint64_t> words, uint32_t* counts);
// Tiles that row blocks execute after so many steps. counts: [row_blocks, kRaises + 1].
[[nodiscard]] int64_t tiles_after(std::span<const uint32_t> counts, int steps);

// Eight bins per octave from 2^-32 to 2^32; forced keys (+inf) fall in the last one.
inline constexpr int kHistogramBins = 64 * 8;

// bins [kHistogramBins] of one row block.
void count_bins(const float* e, int64_t keys, uint32_t* bins);

// Tiles that row blocks execute for the keys of bins >= lowest. bins: [row_blocks, kHistogramBins].
[[nodiscard]] int64_t tiles_from_bin(std::span<const uint32_t> bins, int lowest);

// The threshold that keeps exactly the keys of bins >= lowest.
[[nodiscard]] float lambda_of_bin(int lowest);

// The smallest lambda whose selection costs at most `tiles`, or what the forced keys cost if that
// is more: keys that fit into the forced keys' last tiles are free.
[[nodiscard]] float lambda_for_tiles(std::span<const uint32_t> bins, int64_t tiles);

}  // namespace mi::runtime
