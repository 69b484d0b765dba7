// Attention on elements T of two bytes: queries, keys, values and outputs are T, sums f32. K and V
// of a KV head are packed once per call, and all query heads then run over that form: for bf16 into
// what a backend's instructions want (Backend::pack), else as f32 rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/half.h"

namespace mi::kernels {

// K and V of one KV head.
template <class T>
struct BasicKeyValueRows {
  const T* k = nullptr;  // [n_kv, head_dim], rows k_stride apart
  const T* v = nullptr;  // [n_kv, head_dim], rows v_stride apart
  int64_t k_stride = 0;  // strides in elements
  int64_t v_stride = 0;
  int64_t n_kv = 0;
  int head_dim = 0;

  [[nodiscard]] int64_t tiles() const { return (n_kv + kKeyTile - 1) / kKeyTile; }
};

// One row block of one query head.
template <class T>
struct BasicHeadBlock {
  const T* q = nullptr;            // the head's [n_q, head_dim], rows q_stride apart
  T* o = nullptr;                  // the head's [n_q, head_dim], rows o_stride apart
  float* lse = nullptr;            // the head's [n_q], may be null
  int64_t block = 0;               // which rows
  const uint64_t* keys = nullptr;  // bitmap of keys_end(block) bits, null for all
  int64_t tiles = 0;               // out: executed, ceil(selected keys / 64)
};

// Row blocks over one KV head that run together, so that they find each other's keys in cache.
inline constexpr int kMaxGroup = 16;

template <class T>
struct BasicPackedGroup {
  BasicKeyValueRows<T> rows;            // single keys are gathered from here,
  const std::byte* packed = nullptr;    // runs come from the same rows packed
  std::span<BasicHeadBlock<T>> blocks;  // 1 .. kMaxGroup
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

using KeyValueRows = BasicKeyValueRows<bf16>;
using HeadBlock = BasicHeadBlock<bf16>;
using PackedGroup = BasicPackedGroup<bf16>;

class Backend;

// What is done without instructions for T, on Backend::packed_bytes() of f32 rows and
// packed_scratch_bytes() of an f32 backend: queries and outputs are converted row block by row
// block, and Backend::attend does the rest.
template <class T>
void widen_tile(const BasicKeyValueRows<T>& rows, int64_t tile, std::byte* packed);
template <class T>
void attend_widened(const Backend& backend, const BasicPackedGroup<T>& group, void* scratch);

}  // namespace mi::kernels
