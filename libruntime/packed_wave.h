// The bf16 side of a plan's run: what a wave of heads needs beyond its f32 view of the shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "kernels/tensor_view.h"

namespace mi::runtime {

struct PackedWave {
  const kernels::Backend* backend = nullptr;
  // Of the whole call; the wave is heads [first, first + count).
  TensorView<const bf16, 3> q, k, v;
  TensorView<bf16, 3> o;
  TensorView<float, 2> lse;  // or empty
  int first = 0;
  int count = 0;
  int heads_per_kv = 1;
  float scale = 0;
  float softcap = 0;
  std::byte* packed = nullptr;  // [kv_heads() of packed_bytes]
  size_t packed_bytes = 0;      // of one KV head
  float* wide_keys = nullptr;   // [kv_heads(), n_kv, head_dim] when an estimate reads keys

  [[nodiscard]] int first_kv() const { return first / heads_per_kv; }
  [[nodiscard]] int kv_heads() const { return (first + count - 1) / heads_per_kv - first_kv() + 1; }

  // Packing is one unit of work per KV head and tile of 64 keys.
  [[nodiscard]] int64_t pack_units() const { return kv_heads() * key_values(0).tiles(); }
  void pack(int64_t unit) const;

  // Head i of the wave without queries: what estimates see of it.
  [[nodiscard]] kernels::AttentionHead head(int i) const;
  // The same head with its query rows [begin, end), also as f32 where there is room for them.
  [[nodiscard]] kernels::AttentionHead with_queries(int i, int64_t begin, int64_t end,
                                                    float* rows) const;
  // Row block m of head i of the wave.
  [[nodiscard]] kernels::HeadBlock block(int i, int64_t m, const uint64_t* keys) const;
  // Such blocks, all of head i's KV head.
  [[nodiscard]] kernels::PackedGroup group(int i, std::span<kernels::HeadBlock> blocks) const;

 private:
  // KV head g of the wave.
  [[nodiscard]] kernels::KeyValueRows key_values(int g) const;
};

}  // namespace mi::runtime
