#include "libruntime/packed_wave.h"

#include <algorithm>

namespace mi::runtime {

kernels::KeyValueRows PackedWave::key_values(int g) const {
  const int64_t kv = first_kv() + g;
  return {.k = k.data + kv * k.stride[0],
          .v = v.data + kv * v.stride[0],
          .k_stride = k.stride[1],
          .v_stride = v.stride[1],
          .n_kv = k.extent[1],
          .head_dim = static_cast<int>(k.extent[2])};
}

void PackedWave::pack(int64_t unit) const {
  const int64_t tiles = key_values(0).tiles();
  const auto g = static_cast<int>(unit / tiles);
  const int64_t tile = unit % tiles;
  const kernels::KeyValueRows rows = key_values(g);
  backend->pack(rows, tile, packed + static_cast<size_t>(g) * packed_bytes);
  if (wide_keys == nullptr) return;
  const int64_t key = tile * kernels::kKeyTile;
  widen(rows.k + key * rows.k_stride, rows.k_stride,
        std::min<int64_t>(kernels::kKeyTile, rows.n_kv - key), rows.head_dim,
        wide_keys + (g * rows.n_kv + key) * rows.head_dim);
}

kernels::AttentionHead PackedWave::head(int i) const {
  const int g = (first + i) / heads_per_kv - first_kv();
  kernels::AttentionHead head = group(i, {}).shape();
  head.packed = packed + static_cast<size_t>(g) * packed_bytes;
  if (wide_keys != nullptr) head.k = wide_keys + g * head.n_kv * head.head_dim;
  head.k_stride = head.q_stride = head.head_dim;
  return head;
}

kernels::AttentionHead PackedWave::with_queries(int i, int64_t begin, int64_t end,
                                                float* rows) const {
  kernels::AttentionHead result = head(i);
  result.q_first = begin;
  result.q_bf16 = q[first + i][begin].data;
  result.q_bf16_stride = q.stride[1];
  if (rows == nullptr) return result;
  widen(result.q_bf16, result.q_bf16_stride, end - begin, result.head_dim, rows);
  result.q = rows;
  return result;
}

kernels::HeadBlock PackedWave::block(int i, int64_t m, const uint64_t* keys) const {
  const int64_t h = first + i;
  return {.q = q.data + h * q.stride[0],
          .o = o.data + h * o.stride[0],
          .lse = lse.data == nullptr ? nullptr : lse.data + h * lse.stride[0],
          .block = m,
          .keys = keys};
}

kernels::PackedGroup PackedWave::group(int i, std::span<kernels::HeadBlock> blocks) const {
  const int g = (first + i) / heads_per_kv - first_kv();
  return {.rows = key_values(g),
          .packed = packed + static_cast<size_t>(g) * packed_bytes,
          .blocks = blocks,
          .q_stride = q.stride[1],
          .o_stride = o.stride[1],
          .n_q = q.extent[1],
          .scale = scale,
          .softcap = softcap};
}

}  // namespace mi::runtime
