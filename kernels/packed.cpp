#include "kernels/packed.h"

#include <algorithm>

#include "kernels/backend.h"

namespace mi::kernels {
namespace {

size_t row_floats(int head_dim) {
  return static_cast<size_t>(kRowBlock) * static_cast<size_t>(head_dim);
}

}  // namespace

template <class T>
void widen_tile(const BasicKeyValueRows<T>& rows, int64_t tile, std::byte* packed) {
  const int64_t first = tile * kKeyTile;
  const int64_t count = std::min<int64_t>(kKeyTile, rows.n_kv - first);
  float* k = reinterpret_cast<float*>(packed) + first * rows.head_dim;
  widen(rows.k + first * rows.k_stride, rows.k_stride, count, rows.head_dim, k);
  widen(rows.v + first * rows.v_stride, rows.v_stride, count, rows.head_dim,
        k + rows.n_kv * rows.head_dim);
}

template <class T>
void attend_widened(const Backend& backend, const BasicPackedGroup<T>& group, void* scratch) {
  const int dim = group.rows.head_dim;
  const AttentionHead shape = group.shape();
  auto* q = static_cast<float*>(scratch);
  float* o = q + row_floats(dim);
  float* rest = o + row_floats(dim);
  for (BasicHeadBlock<T>& part : group.blocks) {
    const int64_t first = shape.first_row(part.block);
    const int rows = shape.rows(part.block);
    // The block alone is a head whose only rows are its last ones.
    AttentionHead head = shape;
    head.q = q;
    head.k = reinterpret_cast<const float*>(group.packed);
    head.v = head.k + group.rows.n_kv * dim;
    head.q_stride = head.k_stride = head.v_stride = dim;
    head.n_q = rows;
    head.n_kv = shape.keys_end(part.block);
    widen(part.q + first * group.q_stride, group.q_stride, rows, dim, q);
    float* lse = part.lse == nullptr ? nullptr : part.lse + first;
    part.tiles = backend.attend(head, 0, part.keys, o, dim, lse, rest);
    for (int r = 0; r < rows; ++r)
      for (int x = 0; x < dim; ++x)
        part.o[(first + r) * group.o_stride + x] = narrowed<T>(o[r * dim + x]);
  }
}

template void widen_tile(const BasicKeyValueRows<f16>&, int64_t, std::byte*);
template void attend_widened(const Backend&, const BasicPackedGroup<f16>&, void*);

size_t Backend::packed_bytes(int head_dim, int64_t n_kv) const {
  return 2 * static_cast<size_t>(n_kv) * static_cast<size_t>(head_dim) * sizeof(float);
}
size_t Backend::packed_scratch_bytes(int head_dim, int64_t /*n_kv*/) const {
  return scratch_bytes(head_dim) + 2 * row_floats(head_dim) * sizeof(float);
}
void Backend::pack(const KeyValueRows& rows, int64_t tile, std::byte* packed) const {
  widen_tile(rows, tile, packed);
}
void Backend::attend_packed(const PackedGroup& group, void* scratch) const {
  attend_widened(*this, group, scratch);
}

void Backend::packed_probabilities(const ProbabilityRows& rows, const std::byte* packed,
                                   int64_t /*n_kv*/, void* scratch) const {
  ProbabilityRows over = rows;
  over.k = reinterpret_cast<const float*>(packed);
  over.k_stride = rows.dim;
  probabilities(over, scratch);
}

// Without instructions for codes estimates stay probabilities.
void Backend::packed_codes(const ProbabilityRows& /*rows*/, const std::byte* /*packed*/,
                           int64_t /*n_kv*/, const MassCodes& /*codes*/, void* /*scratch*/) const {}
void Backend::codes_of(const float* /*a*/, const float* /*b*/, int64_t /*keys*/,
                       float /*threshold*/, uint8_t* /*code*/) const {}

}  // namespace mi::kernels
