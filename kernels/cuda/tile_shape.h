// How a block of threads divides its work, by head dimension.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/attention.h"

namespace mi::kernels::cuda {

inline constexpr int kWarps = 4;
inline constexpr uint32_t kThreads = kWarps * 32;
inline constexpr int kWarpRows = kRowBlock / kWarps;
static_assert(kWarpRows == 16, "the M of mma.m16n8k16");

// There is a kernel for each of these.
inline constexpr std::array kHeadDims = {64, 80, 96, 128, 256};

template <int kHeadDim>
struct TileShape {
  // Keys a tile. 64 as in the cost function; 32 at 256, where two stages of 64 would take 160 KiB
  // beside 128 accumulator registers a thread, and sm_120 has 99 KiB a block.
  static constexpr int kKeys = kHeadDim <= 128 ? 64 : 32;
  static constexpr int kStages = 2;  // key tiles in shared memory
  // Key indices of a selection are written two tiles ahead, while one tile is copied and one read:
  // three are alive at a time, four make the modulo a mask.
  static constexpr int kIndexStages = 4;
  // Fragments of Q stay in registers where they fit beside the accumulators (32 of Q, 64 of O and
  // 32 of S a thread at 128). Every warp reads all of K and V from shared memory, which at 16 rows
  // a warp takes as many cycles as the products (128 bytes a cycle; 1024 multiply-adds a cycle on
  // sm_80), so Q should not be read again for each tile.
  static constexpr bool kKeepQuery = kHeadDim <= 128;
  // Bytes of dynamic shared memory, as it lies there: Q (later O); per stage K, then V; indices.
  static constexpr uint32_t kQuery = 0;
  static constexpr uint32_t kStage = kRowBlock * kHeadDim * 2;
  static constexpr uint32_t kKeyBytes = kKeys * kHeadDim * 2;
  static constexpr uint32_t kStageBytes = 2 * kKeyBytes;
  static constexpr uint32_t kIndices = kStage + kStages * kStageBytes;
  static constexpr uint32_t kIndexBytes = kKeys * 4;
  static constexpr uint32_t kBytes = kIndices + kIndexStages * kIndexBytes;

  // Blocks a multiprocessor is to hold: what its shared memory has room for (each takes 1 KiB more
  // than it asks for), and no more than leaves each thread the registers to do without spills.
  static constexpr uint32_t kByRegisters = kHeadDim <= 64 ? 3 : kHeadDim <= 128 ? 2 : 1;
  template <uint32_t kSharedKib>
  static constexpr uint32_t kResidentBlocks = std::min(kByRegisters,
                                                       kSharedKib * 1024 / (kBytes + 1024));
};

// The same for the stripe estimate, whose block takes 64 mean queries.
template <int kHeadDim>
struct StripeShape {
  static constexpr int kKeys = TileShape<kHeadDim>::kKeys;
  static constexpr int kStages = 2;
  // Shared memory: the means, what their rounding lost, stages of keys.
  static constexpr uint32_t kMeanBytes = 64 * kHeadDim * 2;
  static constexpr uint32_t kStage = 2 * kMeanBytes;
  static constexpr uint32_t kStageBytes = kKeys * kHeadDim * 2;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};

// The same for the vertical_slash estimate, whose block takes 64 query rows.
template <int kHeadDim>
struct VerticalShape {
  static constexpr int kKeys = TileShape<kHeadDim>::kKeys;
  static constexpr int kStages = 2;
  static constexpr uint32_t kStage = 64 * kHeadDim * 2;  // behind the rows
  static constexpr uint32_t kStageBytes = kKeys * kHeadDim * 2;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};
// The same for the antidiagonal estimate: 64 query groups and a tile of key groups, a member each.
template <int kHeadDim>
struct AntidiagonalShape {
  static constexpr int kKeys = TileShape<kHeadDim>::kKeys;
  static constexpr int kStages = 2;
  static constexpr uint32_t kKeyPart = 64 * kHeadDim * 2;
  static constexpr uint32_t kStageBytes = kKeyPart + kKeys * kHeadDim * 2;
  static constexpr uint32_t kBytes = kStages * kStageBytes;
};
// The pooled estimate: a mean query, then of each thread a largest term and a sum.
struct PooledShape {
  static constexpr uint32_t kSums = kMaxHeadDim * 4;
  static constexpr uint32_t kBytes = kSums + kThreads * 8;
};
inline constexpr uint32_t kDiagonalBytes = (kThreads + 63) * 4;
// Sums over a row of the decoder, one a warp.
inline constexpr uint32_t kRowSumBytes = kWarps * 4;

// Shared memory of prefix sums over a block of threads (block_sum.cuh).
constexpr uint32_t block_sum_bytes(uint32_t threads) {
  return threads / 32 * 8;
}

// The same for selection.
struct SelectShape {
  static constexpr uint32_t kCodes = 256;  // counted by each warp
  static constexpr uint32_t kSums = kWarps * kCodes * 4;
  static constexpr uint32_t kCutBytes = kSums + block_sum_bytes(kThreads);
  static constexpr uint32_t kSelectBytes = block_sum_bytes(kThreads);
  static constexpr uint32_t kThresholdBytes = kCodes * 4;
};

// The same for the index build.
struct IndexShape {
  static constexpr uint32_t kBytes = block_sum_bytes(kThreads);  // of a row block
  // One block orders all: at 512K row blocks (1M tokens of 32 heads) each thread has 1024 of them,
  // once a digit of the count of tiles. 16 counters a thread take 32 KiB, 256 of a byte's 512.
  static constexpr uint32_t kOrderThreads = 512;
  static constexpr uint32_t kDigitBits = 4;
  static constexpr uint32_t kDigits = 1U << kDigitBits;
  // Shared memory: counters [kDigits, kOrderThreads], sums.
  static constexpr uint32_t kOrderSums = kDigits * kOrderThreads * 4;
  static constexpr uint32_t kOrderBytes = kOrderSums + block_sum_bytes(kOrderThreads);
};

}  // namespace mi::kernels::cuda
