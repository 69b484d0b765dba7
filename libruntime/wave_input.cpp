#include "libruntime/wave_input.h"

#include <algorithm>
#include <array>

namespace mi::runtime {

kernels::AttentionHead RowsInput::head(int i, int64_t /*begin*/, int64_t /*end*/, bool /*each*/,
                                       float* /*rows*/) const {
  const int64_t h = call_.first + i;
  const int64_t g = h / call_.heads_per_kv;
  return {.q = call_.q.data + h * call_.q.stride[0],
          .k = call_.k.data + g * call_.k.stride[0],
          .v = call_.v.data + g * call_.v.stride[0],
          .q_stride = call_.q.stride[1],
          .k_stride = call_.k.stride[1],
          .v_stride = call_.v.stride[1],
          .n_q = call_.q.extent[1],
          .n_kv = call_.k.extent[1],
          .head_dim = static_cast<int>(call_.q.extent[2]),
          .scale = call_.scale,
          .softcap = call_.softcap};
}

void RowsInput::attend(std::span<BlockWork> work, void* scratch) const {
  for (BlockWork& part : work) {
    const kernels::AttentionHead of = head(part.head, 0, 0, false, nullptr);
    const int64_t row = of.first_row(part.block);
    float* o = call_.o[call_.first + part.head][row].data;
    float* lse = call_.lse_of(part.head);
    part.tiles = call_.backend->attend(of, part.block, part.keys, o, call_.o.stride[1],
                                       lse == nullptr ? nullptr : lse + row, scratch);
  }
}

template <class T>
kernels::BasicKeyValueRows<T> PackedInput<T>::key_values(int g) const {
  const int64_t kv = call_.first_kv() + g;
  return {.k = call_.k.data + kv * call_.k.stride[0],
          .v = call_.v.data + kv * call_.v.stride[0],
          .k_stride = call_.k.stride[1],
          .v_stride = call_.v.stride[1],
          .n_kv = call_.k.extent[1],
          .head_dim = static_cast<int>(call_.k.extent[2])};
}

template <class T>
kernels::BasicPackedGroup<T> PackedInput<T>::group(int i) const {
  const int g = call_.kv_of(i);
  return {.rows = key_values(g),
          .packed = packed_ + static_cast<size_t>(g) * packed_bytes_,
          .blocks = {},
          .q_stride = call_.q.stride[1],
          .o_stride = call_.o.stride[1],
          .n_q = call_.q.extent[1],
          .scale = call_.scale,
          .softcap = call_.softcap};
}

template <class T>
void PackedInput<T>::prepare(int64_t unit) const {
  const int64_t tiles = key_values(0).tiles();
  const auto g = static_cast<int>(unit / tiles);
  const int64_t tile = unit % tiles;
  const auto rows = key_values(g);
  std::byte* packed = packed_ + static_cast<size_t>(g) * packed_bytes_;
  if constexpr (std::is_same_v<T, bf16>) {
    call_.backend->pack(rows, tile, packed);
  } else {
    kernels::widen_tile(rows, tile, packed);
  }
  if (wide_keys_ == nullptr) return;
  const int64_t key = tile * kernels::kKeyTile;
  widen(rows.k + key * rows.k_stride, rows.k_stride,
        std::min<int64_t>(kernels::kKeyTile, rows.n_kv - key), rows.head_dim,
        wide_keys_ + (g * rows.n_kv + key) * rows.head_dim);
}

template <class T>
kernels::AttentionHead PackedInput<T>::head(int i, int64_t begin, int64_t end, bool each,
                                            float* rows) const {
  const auto over = group(i);
  kernels::AttentionHead head = over.shape();
  head.packed = over.packed;
  if constexpr (std::is_same_v<T, f16>) head.k = reinterpret_cast<const float*>(over.packed);
  if (wide_keys_ != nullptr) head.k = wide_keys_ + call_.kv_of(i) * head.n_kv * head.head_dim;
  head.k_stride = head.q_stride = head.head_dim;
  head.q_first = begin;
  const T* q = call_.q[call_.first + i][begin].data;
  if constexpr (std::is_same_v<T, bf16>) {
    head.q_bf16 = q;
    head.q_bf16_stride = over.q_stride;
    if (!each) return head;
  }
  widen(q, over.q_stride, end - begin, head.head_dim, rows);
  head.q = rows;
  return head;
}

template <class T>
void PackedInput<T>::attend(std::span<BlockWork> work, void* scratch) const {
  std::array<kernels::BasicHeadBlock<T>, kernels::kMaxGroup> blocks;
  for (size_t n = 0; n < work.size(); ++n) {
    const int64_t h = call_.first + work[n].head;
    blocks[n] = {.q = call_.q.data + h * call_.q.stride[0],
                 .o = call_.o.data + h * call_.o.stride[0],
                 .lse = call_.lse_of(work[n].head),
                 .block = work[n].block,
                 .keys = work[n].keys};
  }
  auto together = group(work[0].head);
  together.blocks = std::span(blocks).first(work.size());
  if constexpr (std::is_same_v<T, bf16>) {
    call_.backend->attend_packed(together, scratch);
  } else {
    kernels::attend_widened(*call_.backend, together, scratch);
  }
  for (size_t n = 0; n < work.size(); ++n) work[n].tiles = blocks[n].tiles;
}

template class PackedInput<bf16>;
template class PackedInput<f16>;

}  // namespace mi::runtime
