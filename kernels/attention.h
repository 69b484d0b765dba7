// What one call of an attention primitive is about: one query head of one sequence, in f32, and a
// row block of it. Notation of MInference 1.0 (arXiv 2407.02490): row i attends keys j <= i + c
// with c = n_kv - n_q (c > 0 in chunked prefill); rows are taken in blocks of 64.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/half.h"

namespace mi::kernels {

inline constexpr int kRowBlock = 64;  // query rows that share one key selection
inline constexpr int kKeyTile = 64;   // keys per executed tile: the unit of cost
inline constexpr int kMaxHeadDim = 256;

struct AttentionHead {
  const float* q = nullptr;  // [n_q, head_dim], rows q_stride apart
  const float* k = nullptr;  // [n_kv, head_dim], rows k_stride apart
  const float* v = nullptr;  // [n_kv, head_dim], rows v_stride apart
  int64_t q_stride = 0;      // strides in elements
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  int64_t n_q = 0;
  int64_t n_kv = 0;
  int head_dim = 0;
  float scale = 0;    // multiplies q.k
  float softcap = 0;  // s <- softcap*tanh(s/softcap); 0: none
  // bf16 input, as estimates see it: keys are packed (Backend::pack), k is null unless an estimate
  // reads keys, queries from row q_first on are in q_bf16, and as f32 in q if it reads single ones.
  int64_t q_first = 0;
  const bf16* q_bf16 = nullptr;
  int64_t q_bf16_stride = 0;
  const std::byte* packed = nullptr;

  [[nodiscard]] const float* query(int64_t row) const { return q + (row - q_first) * q_stride; }

  [[nodiscard]] int64_t offset() const { return n_kv - n_q; }
  [[nodiscard]] int64_t row_blocks() const { return (n_q + kRowBlock - 1) / kRowBlock; }
  [[nodiscard]] int64_t first_row(int64_t block) const { return block * kRowBlock; }
  [[nodiscard]] int rows(int64_t block) const {
    return static_cast<int>(std::min<int64_t>(kRowBlock, n_q - first_row(block)));
  }
  // Keys visible to the last row of the block: [0, keys_end).
  [[nodiscard]] int64_t keys_end(int64_t block) const {
    return first_row(block) + rows(block) + offset();
  }
};

// The key selection of a row block is a bitmap: bit j of word j/64 says that every row i of the
// block with j <= i + c attends key j. Sorted, unique and causal by construction.
[[nodiscard]] inline int64_t bitmap_words(int64_t keys) {
  return (keys + 63) / 64;
}

}  // namespace mi::kernels
