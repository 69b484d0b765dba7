// What a launch of an estimate is about: the codes of some heads of a layer of one sequence. Plain
// structs, read by the device as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/select_call.h"

namespace mi::kernels::cuda {

// All pointers are to device memory.
template <class T>
struct EstimateCall {
  Strided<const T> q;  // as in Sequence
  Strided<const T> k;
  HeadWords shape;                  // n_q, n_kv
  const HeadRule* heads = nullptr;  // as in SelectCall
  const int32_t* which = nullptr;   // [count] indices into `heads`
  int32_t count = 0;
  int32_t first_head = 0;  // of heads[0] among the layer's
  int32_t heads_per_kv = 1;
  float scale = 0;           // multiplies q.k
  float softcap = 0;         // 0: none
  uint8_t* codes = nullptr;  // as in SelectCall; those of `which` are written
  // Thresholds of heads that spend tiles, as of `heads`; `bins` 1: codes are bins, to find those.
  const float* found = nullptr;
  int32_t bins = 0;

  // Row blocks of a head in groups of so many, the stripe estimate's 64 mean queries.
  static constexpr int64_t kGroup = 64;
  [[nodiscard]] MI_BOTH int64_t groups() const {
    return (shape.row_blocks() + kGroup - 1) / kGroup;
  }
};

// vertical_slash: what the last 64 query rows attend. Three launches make the evidence, a fourth
// the codes.
template <class T>
struct VerticalCall {
  EstimateCall<T> of;
  float* partial = nullptr;   // [count, chunks(), 2, 64] log2 of largest terms, sums of rows
  float* p = nullptr;         // [count, 64, stride()] probabilities of rows
  float* evidence = nullptr;  // [count, 2, stride()] e of columns, and of distances from a block

  static constexpr int64_t kChunkKeys = 4096;  // of a block of threads
  static constexpr int64_t kPositions = 128;   // the same, of columns and distances
  [[nodiscard]] MI_BOTH int64_t chunks() const {
    return (of.shape.n_kv + kChunkKeys - 1) / kChunkKeys;
  }
  [[nodiscard]] MI_BOTH int64_t stride() const {
    return (of.shape.n_kv + kPositions - 1) / kPositions * kPositions;
  }
  // Of each head.
  [[nodiscard]] MI_BOTH int64_t partial_floats() const { return chunks() * 128; }
  [[nodiscard]] MI_BOTH int64_t p_floats() const { return 64 * stride(); }
  [[nodiscard]] MI_BOTH int64_t evidence_floats() const { return 2 * stride(); }
};

// block_sparse by means of queries and of 64 keys. Two launches: means, codes.
template <class T>
struct PooledCall {
  EstimateCall<T> of;
  int32_t head_dim = 0;
  int32_t first_kv = 0;  // KV heads of `of.which`: [first_kv, first_kv + kv_heads)
  int32_t kv_heads = 0;
  float* means = nullptr;  // [kv_heads, head_dim, key_blocks()]

  [[nodiscard]] MI_BOTH int64_t key_blocks() const { return (of.shape.n_kv + 63) / 64; }
};

// block_sparse by antidiagonals of strided blocks, in one launch.
template <class T>
struct AntidiagonalCall {
  EstimateCall<T> of;
  int32_t stride = 16;  // 8 or 16

  // So many row blocks have 64 groups of `stride` queries, a block of threads' share.
  [[nodiscard]] MI_BOTH int64_t items() const {
    return of.count * ((of.shape.row_blocks() + stride - 1) / stride);
  }
};

}  // namespace mi::kernels::cuda
