// bf16 attention: queries, keys, values and outputs are bf16, sums f32. A backend packs K and V of
// a KV head once per call into what its instructions want; all query heads then run over that form.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/bf16.h"

namespace mi::kernels {

// K and V of one KV head.
struct KeyValueRows {
  const bf16* k = nullptr;  // [n_kv, head_dim], rows k_stride apart
  const bf16* v = nullptr;  // [n_kv, head_dim], rows v_stride apart
  int64_t k_stride = 0;     // strides in elements
  int64_t v_stride = 0;
  int64_t n_kv = 0;
  int head_dim = 0;

  [[nodiscard]] int64_t tiles() const { return (n_kv + kKeyTile - 1) / kKeyTile; }
};

// Query heads that attend one row block with one selection; they share a KV head.
inline constexpr int kMaxGroup = 8;

struct PackedGroup {
  KeyValueRows rows;                  // single keys are gathered from here,
  const std::byte* packed = nullptr;  // runs come from Backend::pack of the same rows
  int heads = 0;                      // 1 .. kMaxGroup
  const bf16* q[kMaxGroup] = {};      // each [n_q, head_dim], rows q_stride apart
  bf16* o[kMaxGroup] = {};            // each [n_q, head_dim], rows o_stride apart
  float* lse[kMaxGroup] = {};         // each [n_q], may be null
  int64_t q_stride = 0;
  int64_t o_stride = 0;
  int64_t n_q = 0;
  float scale = 0;
  float softcap = 0;  // 0: none

  // Shape and row blocks as of an f32 head; its pointers are null.
  [[nodiscard]] AttentionHead shape() const {
    return {.n_q = n_q,
            .n_kv = rows.n_kv,
            .head_dim = rows.head_dim,
            .scale = scale,
            .softcap = softcap};
  }
};

}  // namespace mi::kernels
