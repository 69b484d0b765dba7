// bf16 attention: queries, keys, values and outputs are bf16, sums f32. A backend packs K and V of
// a KV head once per call into what its instructions want; all query heads then run over that form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

// One row block of one query head.
struct HeadBlock {
  const bf16* q = nullptr;         // the head's [n_q, head_dim], rows q_stride apart
  bf16* o = nullptr;               // the head's [n_q, head_dim], rows o_stride apart
  float* lse = nullptr;            // the head's [n_q], may be null
  int64_t block = 0;               // which rows
  const uint64_t* keys = nullptr;  // bitmap of keys_end(block) bits, null for all
  int64_t tiles = 0;               // out: executed, ceil(selected keys / 64)
};

// Row blocks over one KV head that run together, so that they find each other's keys in cache.
inline constexpr int kMaxGroup = 16;

struct PackedGroup {
  KeyValueRows rows;                  // single keys are gathered from here,
  const std::byte* packed = nullptr;  // runs come from Backend::pack of the same rows
  std::span<HeadBlock> blocks;        // 1 .. kMaxGroup
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
