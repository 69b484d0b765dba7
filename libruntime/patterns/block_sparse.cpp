// block_sparse: 64 x 64 blocks by the product of mean-pooled queries and keys (MInference 1.0 §3),
// or by sums along antidiagonals of strided blocks (XAttention, arXiv 2503.16428 §2.1).
#include <algorithm>
#include <numeric>

#include "libruntime/patterns/patterns.h"

namespace mi::runtime::patterns {
namespace {

constexpr int64_t kBlock = kernels::kKeyTile;

int64_t key_blocks(int64_t keys) {
  return (keys + kBlock - 1) / kBlock;
}

// e [keys_end] <- the share of each key's block; a share is spread over 64 keys and scaled to the
// 64 rows of the block, so the share itself is the mass per key.
void expand_blocks(const float* share, int64_t keys, float* e) {
  for (int64_t j = 0; j < keys; ++j) e[j] = share[j / kBlock];
}

class PooledBlocks final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape& shape) const override {
    return static_cast<double>(shape.row_blocks()) * static_cast<double>(key_blocks(shape.n_kv)) *
           shape.head_dim;
  }
  [[nodiscard]] size_t evidence_floats(const CallShape& shape) const override {
    return static_cast<size_t>(key_blocks(shape.n_kv) * shape.head_dim);
  }
  [[nodiscard]] size_t scratch_floats(const CallShape& shape) const override {
    return static_cast<size_t>(64 * shape.head_dim + 65 * key_blocks(shape.n_kv));
  }
  [[nodiscard]] int probability_dim(const CallShape& shape) const override {
    return shape.head_dim;
  }

  [[nodiscard]] bool reads_keys() const override { return true; }
  bool codes(const kernels::AttentionHead& head, const kernels::Backend& backend,
             const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
             uint8_t* code) const override {
    if (params().counts) return false;
    const Shares shares = block_shares(head, backend, memory, begin, end);
    auto* of_blocks = reinterpret_cast<uint8_t*>(shares.order);
    for (int64_t m = begin; m < end; ++m) {
      const int64_t blocks = key_blocks(head.keys_end(m));
      backend.codes_of(shares.row + (m - begin) * shares.stride, nullptr, blocks, lambda,
                       of_blocks);
      uint8_t* row = code + (m - begin) * head.n_kv;
      for (int64_t b = 0; b < blocks; ++b)
        std::fill(row + b * kBlock, row + std::min((b + 1) * kBlock, head.keys_end(m)),
                  of_blocks[b]);
    }
    return true;
  }
  void prepare(const kernels::AttentionHead& head, const kernels::Backend&,
               const EstimatorMemory& memory) const override {
    for (int64_t b = 0; b < key_blocks(head.n_kv); ++b) {
      float* mean = memory.evidence + b * head.head_dim;
      std::fill(mean, mean + head.head_dim, 0.0f);
      const int64_t end = std::min(head.n_kv, (b + 1) * kBlock);
      for (int64_t j = b * kBlock; j < end; ++j)
        for (int k = 0; k < head.head_dim; ++k) mean[k] += head.k[j * head.k_stride + k];
      const float inverse = 1.0f / static_cast<float>(end - b * kBlock);
      for (int k = 0; k < head.head_dim; ++k) mean[k] *= inverse;
    }
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend& backend,
                const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                int64_t e_stride) const override {
    const Shares shares = block_shares(head, backend, memory, begin, end);
    for (int64_t m = begin; m < end; ++m) {
      float* row = shares.row + (m - begin) * shares.stride;
      if (params().counts) rank_blocks(row, key_blocks(head.keys_end(m)), shares.order);
      expand_blocks(row, head.keys_end(m), e + (m - begin) * e_stride);
    }
  }

 private:
  struct Shares {
    float* row;  // [end - begin, stride]
    int64_t stride;
    int32_t* order;  // scratch [stride]
  };
  static Shares block_shares(const kernels::AttentionHead& head, const kernels::Backend& backend,
                             const EstimatorMemory& memory, int64_t begin, int64_t end) {
    const int64_t blocks = key_blocks(head.n_kv);
    float* queries = memory.scratch;
    float* share = queries + 64 * head.head_dim;
    mean_queries(head, begin, end, queries);
    int64_t visible[64];
    for (int64_t m = begin; m < end; ++m) visible[m - begin] = key_blocks(head.keys_end(m));
    backend.probabilities({.q = queries,
                           .q_stride = head.head_dim,
                           .rows = static_cast<int>(end - begin),
                           .k = memory.evidence,
                           .k_stride = head.head_dim,
                           .dim = head.head_dim,
                           .scale = head.scale,
                           .softcap = head.softcap,
                           .visible = visible,
                           .p = share,
                           .p_stride = blocks},
                          memory.kernel_scratch);
    return {share, blocks, reinterpret_cast<int32_t*>(share + 64 * blocks)};
  }
};

class AntidiagonalBlocks final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape& shape) const override {
    return static_cast<double>(shape.n_q) * static_cast<double>(2 * shape.n_kv - shape.n_q) *
           shape.head_dim / params().stride;
  }
  // Keys regrouped as [n_kv / stride, stride * head_dim], zero beyond the end: f32, or bf16 rows
  // and the same packed, whole tiles of them.
  [[nodiscard]] size_t evidence_floats(const CallShape& shape) const override {
    return static_cast<size_t>(padded_groups(shape.n_kv) * wide(shape.head_dim));
  }
  [[nodiscard]] size_t scratch_floats(const CallShape& shape) const override {
    return static_cast<size_t>(64 * wide(shape.head_dim) + 64 * groups(shape.n_kv) +
                               2 * key_blocks(shape.n_kv));
  }
  [[nodiscard]] int probability_dim(const CallShape& shape) const override {
    return wide(shape.head_dim);
  }

  [[nodiscard]] bool reads_keys() const override { return true; }
  [[nodiscard]] bool reads_queries() const override { return true; }
  void prepare(const kernels::AttentionHead& head, const kernels::Backend& backend,
               const EstimatorMemory& memory) const override {
    if (!is_packed(head, backend)) {
      put_keys(head, memory.evidence);
      return;
    }
    auto* rows = reinterpret_cast<bf16*>(memory.evidence);
    put_keys(head, rows);
    const int dim = wide(head.head_dim);
    const kernels::KeyValueRows keys{
        .k = rows, .k_stride = dim, .n_kv = groups(head.n_kv), .head_dim = dim};
    for (int64_t tile = 0; tile < keys.tiles(); ++tile)
      backend.pack(keys, tile, packed_keys(head, memory));
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend& backend,
                const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                int64_t e_stride) const override {
    const int stride = params().stride;
    const int dim = wide(head.head_dim);
    const int per_block = kernels::kRowBlock / stride;  // query groups of a row block
    float* queries = memory.scratch;
    float* p = queries + 64 * dim;
    float* share = p + 64 * groups(head.n_kv);
    auto* order = reinterpret_cast<int32_t*>(share + key_blocks(head.n_kv));
    for (int64_t from = begin; from < end; from += stride) {  // `stride` row blocks fill 64 lanes
      const int64_t to = std::min(end, from + stride);
      int64_t visible[64];
      int count = 0;
      for (int64_t row = head.first_row(from); row < head.first_row(to - 1) + head.rows(to - 1);
           row += stride, ++count) {
        visible[count] = (row + head.offset()) / stride + 1;
        // Queries in reverse against keys in order: the sum runs along antidiagonals.
        for (int i = 0; i < stride; ++i) {
          float* piece = queries + count * dim + i * head.head_dim;
          const int64_t source = row + stride - 1 - i;
          if (source < head.n_q) {
            std::copy_n(head.query(source), head.head_dim, piece);
          } else {
            std::fill(piece, piece + head.head_dim, 0.0f);
          }
        }
      }
      const kernels::ProbabilityRows rows{.q = queries,
                                          .q_stride = dim,
                                          .rows = count,
                                          .k = memory.evidence,
                                          .k_stride = dim,
                                          .dim = dim,
                                          .scale = head.scale / static_cast<float>(stride),
                                          .softcap = head.softcap,
                                          .visible = visible,
                                          .p = p,
                                          .p_stride = groups(head.n_kv)};
      if (is_packed(head, backend)) {
        backend.packed_probabilities(rows, packed_keys(head, memory), groups(head.n_kv),
                                     memory.kernel_scratch);
      } else {
        backend.probabilities(rows, memory.kernel_scratch);
      }
      for (int64_t m = from; m < to; ++m) {
        const int first = static_cast<int>(m - from) * per_block;
        const int last = std::min(count, first + per_block);
        const int64_t blocks = key_blocks(head.keys_end(m));
        std::fill(share, share + blocks, 0.0f);
        for (int a = first; a < last; ++a)
          for (int64_t b = 0; b < visible[a]; ++b)
            share[b * stride / kBlock] +=
                p[a * groups(head.n_kv) + b] / static_cast<float>(last - first);
        if (params().counts) rank_blocks(share, blocks, order);
        expand_blocks(share, head.keys_end(m), e + (m - begin) * e_stride);
      }
    }
  }

 private:
  [[nodiscard]] int wide(int head_dim) const { return params().stride * head_dim; }
  [[nodiscard]] int64_t groups(int64_t keys) const {
    return (keys + params().stride - 1) / params().stride;
  }
  [[nodiscard]] int64_t padded_groups(int64_t keys) const {
    return key_blocks(groups(keys)) * kernels::kKeyTile;
  }
  // Backends with codes pack a key into two bytes a number, as evidence_floats has it.
  static bool is_packed(const kernels::AttentionHead& head, const kernels::Backend& backend) {
    return head.packed != nullptr && backend.has_codes();
  }
  std::byte* packed_keys(const kernels::AttentionHead& head, const EstimatorMemory& memory) const {
    return reinterpret_cast<std::byte*>(memory.evidence +
                                        padded_groups(head.n_kv) * wide(head.head_dim) / 2);
  }
  template <class T>
  void put_keys(const kernels::AttentionHead& head, T* out) const {
    for (int64_t j = 0; j < head.n_kv; ++j)
      std::transform(head.k + j * head.k_stride, head.k + j * head.k_stride + head.head_dim,
                     out + j * head.head_dim, narrowed<T>);
    std::fill(out + head.n_kv * head.head_dim, out + groups(head.n_kv) * wide(head.head_dim), T{});
  }
};

}  // namespace

void rank_blocks(float* mass, int64_t count, int32_t* order) {
  std::iota(order, order + count, 0);
  std::sort(order, order + count,
            [&](int32_t a, int32_t b) { return mass[a] != mass[b] ? mass[a] > mass[b] : a < b; });
  for (int64_t rank = 0; rank < count; ++rank)
    mass[order[rank]] = 1.0f / (static_cast<float>(rank) + 0.5f);
}

std::unique_ptr<const Estimator> make_pooled_blocks(const EstimatorParams& params) {
  return std::make_unique<PooledBlocks>(params);
}
std::unique_ptr<const Estimator> make_antidiagonal_blocks(const EstimatorParams& params) {
  return std::make_unique<AntidiagonalBlocks>(params);
}

}  // namespace mi::runtime::patterns
