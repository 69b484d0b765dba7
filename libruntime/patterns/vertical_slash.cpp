// vertical_slash: columns and diagonals that the last 64 query rows attend (MInference 1.0,
// arXiv 2407.02490, Algorithm 2), as expected mass per key (density form) or as the published
// counts of columns and diagonals.
#include <algorithm>
#include <limits>
#include <numeric>

#include "libruntime/patterns/patterns.h"

namespace mi::runtime::patterns {
namespace {

constexpr int64_t kForcedColumns = 30;  // of the published code
constexpr int64_t kForcedDistances = 100;

// x[t] <- combine over x[t .. t+63] by six doublings; beyond the end counts as `neutral`.
template <class Combine>
void slide_64(float* x, int64_t count, float neutral, Combine combine) {
  for (int64_t step = 1; step < 64; step *= 2)
    for (int64_t t = 0; t < count; ++t)
      x[t] = combine(x[t], t + step < count ? x[t + step] : neutral);
}

// score[i] <- budget / (rank + 1/2), ranks by descending score, the first `forced` ahead of all.
void rank_scores(float* score, int64_t count, int64_t forced, double budget, int32_t* order) {
  std::iota(order, order + count, 0);
  const int64_t kept = std::min(forced, count);
  std::sort(order + kept, order + count, [&](int32_t a, int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  });
  for (int64_t rank = 0; rank < count; ++rank)
    score[order[rank]] = static_cast<float>(budget / (static_cast<double>(rank) + 0.5));
}

class VerticalSlash final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape& shape) const override {
    return 2.0 * static_cast<double>(std::min<int64_t>(64, shape.n_q)) *
           static_cast<double>(shape.n_kv) * shape.head_dim;
  }
  [[nodiscard]] double rows_flops(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t evidence_floats(const CallShape& shape) const override {
    return static_cast<size_t>(2 * shape.n_kv);
  }
  [[nodiscard]] size_t scratch_floats(const CallShape& shape) const override {
    return static_cast<size_t>(64 * shape.n_kv);
  }
  [[nodiscard]] int probability_dim(const CallShape& shape) const override {
    return shape.head_dim;
  }

  // Evidence: e of columns [n_kv], then of key offsets t = n_kv - 1 .. 0 before the block: falling,
  // so that both are read in the order of keys.
  void prepare(const kernels::AttentionHead& head, const kernels::Backend& backend,
               const EstimatorMemory& memory) const override {
    const int64_t n = head.n_kv;
    const int rows = static_cast<int>(std::min<int64_t>(64, head.n_q));
    int64_t visible[64];
    for (int r = 0; r < rows; ++r) visible[r] = n - rows + r + 1;
    key_probabilities(head, backend,
                      {.q = head.query(head.n_q - rows),
                       .q_stride = head.q_stride,
                       .rows = rows,
                       .dim = head.head_dim,
                       .scale = head.scale,
                       .softcap = head.softcap,
                       .visible = visible,
                       .p = memory.scratch,
                       .p_stride = n},
                      memory.kernel_scratch);
    float* column = memory.evidence;
    float* slash = memory.evidence + n;
    std::fill(column, column + 2 * n, 0.0f);
    for (int r = 0; r < rows; ++r) {
      const float* p = memory.scratch + r * n;
      for (int64_t j = 0; j < visible[r]; ++j) column[j] += p[j];
      // By rising key, which vectorises: turned round below.
      const int64_t unseen = n - visible[r];
      for (int64_t j = 0; j < visible[r]; ++j) slash[unseen + j] += p[j];
    }
    std::reverse(slash, slash + n);
    if (params().counts) {
      auto* order = reinterpret_cast<int32_t*>(memory.scratch);
      rank_scores(column, n, kForcedColumns, params().vertical, order);
      rank_scores(slash, n, kForcedDistances, params().slash, order);
      slide_64(slash, n, 0.0f, [](float a, float b) { return std::max(a, b); });
      std::reverse(slash, slash + n);
      return;
    }
    const float per_row = 1.0f / static_cast<float>(rows);
    for (int64_t j = 0; j < n; ++j) column[j] *= 64.0f * per_row;
    slide_64(slash, n, 0.0f, [](float a, float b) { return a + b; });
    for (int64_t t = 0; t < n; ++t) slash[t] *= per_row;
    std::reverse(slash, slash + n);
  }
  bool codes(const kernels::AttentionHead& head, const kernels::Backend& backend,
             const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
             uint8_t* code) const override {
    if (params().counts) return false;
    for (int64_t m = begin; m < end; ++m) {
      const int64_t first = head.first_row(m) + head.offset();
      uint8_t* row = code + (m - begin) * head.n_kv;
      backend.codes_of(memory.evidence, slashes(head, memory, first), first, lambda, row);
      std::fill(row + first, row + head.keys_end(m), uint8_t{255});
    }
    return true;
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend&,
                const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                int64_t e_stride) const override {
    const float* column = memory.evidence;
    for (int64_t m = begin; m < end; ++m) {
      float* row = e + (m - begin) * e_stride;
      const int64_t first = head.first_row(m) + head.offset();
      const float* slash = slashes(head, memory, first);
      if (params().counts) {
        for (int64_t j = 0; j < first; ++j) row[j] = std::max(column[j], slash[j]);
      } else {
        for (int64_t j = 0; j < first; ++j) row[j] = column[j] + slash[j];
      }
      // Distance 0 is forced in both forms, and its diagonal covers the block's own keys.
      for (int64_t j = first; j < head.keys_end(m); ++j)
        row[j] = std::numeric_limits<float>::infinity();
    }
  }

 private:
  // [first]: of keys 0 .. first - 1 for a block whose own keys begin at `first`.
  static const float* slashes(const kernels::AttentionHead& head, const EstimatorMemory& memory,
                              int64_t first) {
    return memory.evidence + 2 * head.n_kv - 1 - first;
  }
};

}  // namespace

std::unique_ptr<const Estimator> make_vertical_slash(const EstimatorParams& params) {
  return std::make_unique<VerticalSlash>(params);
}

}  // namespace mi::runtime::patterns
