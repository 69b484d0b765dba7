// stripe: the keys that a row block's mean query attends, single keys per 64 rows (the granularity
// of AnchorAttention, arXiv 2505.23520, with softmax mass in place of its difference to an anchor);
// and stripe+vertical_slash, the larger of the two estimates.
#include <algorithm>

#include "libruntime/patterns/patterns.h"

namespace mi::runtime::patterns {
namespace {

class Stripe final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape& shape) const override {
    double keys = 0;
    for (int64_t m = 0; m < shape.row_blocks(); ++m) keys += static_cast<double>(shape.keys_end(m));
    return 2.0 * keys * shape.head_dim;
  }
  [[nodiscard]] size_t evidence_floats(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t scratch_floats(const CallShape& shape) const override {
    return static_cast<size_t>(kEstimateGroup * shape.head_dim);
  }
  [[nodiscard]] int probability_dim(const CallShape& shape) const override {
    return shape.head_dim;
  }
  void prepare(const kernels::AttentionHead&, const kernels::Backend&,
               const EstimatorMemory&) const override {}

  bool codes(const kernels::AttentionHead& head, const kernels::Backend& backend,
             const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
             uint8_t* code) const override {
    int64_t visible[kEstimateGroup];
    backend.packed_codes(
        queries(head, memory, begin, end, visible), head.packed, head.n_kv,
        {.threshold = lambda / kernels::kRowBlock, .code = code, .stride = head.n_kv},
        memory.kernel_scratch);
    return true;
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend& backend,
                const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                int64_t e_stride) const override {
    int64_t visible[kEstimateGroup];
    kernels::ProbabilityRows rows = queries(head, memory, begin, end, visible);
    rows.p = e;
    rows.p_stride = e_stride;
    key_probabilities(head, backend, rows, memory.kernel_scratch);
    for (int64_t m = begin; m < end; ++m) {
      float* row = e + (m - begin) * e_stride;
      for (int64_t j = 0; j < visible[m - begin]; ++j) row[j] *= kernels::kRowBlock;
    }
  }

 private:
  static kernels::ProbabilityRows queries(const kernels::AttentionHead& head,
                                          const EstimatorMemory& memory, int64_t begin, int64_t end,
                                          int64_t* visible) {
    mean_queries(head, begin, end, memory.scratch);
    for (int64_t m = begin; m < end; ++m) visible[m - begin] = head.keys_end(m);
    return {.q = memory.scratch,
            .q_stride = head.head_dim,
            .rows = static_cast<int>(end - begin),
            .dim = head.head_dim,
            .scale = head.scale,
            .softcap = head.softcap,
            .visible = visible};
  }
};

class StripeVerticalSlash final : public Estimator {
 public:
  explicit StripeVerticalSlash(const EstimatorParams& params)
      : Estimator(params),
        stripe_(make_stripe(params)),
        vertical_slash_(make_vertical_slash(params)) {}

  [[nodiscard]] double flops(const CallShape& shape) const override {
    return stripe_->flops(shape) + vertical_slash_->flops(shape);
  }
  [[nodiscard]] double rows_flops(const CallShape& shape) const override {
    return stripe_->rows_flops(shape);
  }
  [[nodiscard]] size_t evidence_floats(const CallShape& shape) const override {
    return vertical_slash_->evidence_floats(shape);
  }
  // One row of the second estimate behind whichever scratch is larger.
  [[nodiscard]] size_t scratch_floats(const CallShape& shape) const override {
    return larger_scratch(shape) + static_cast<size_t>(shape.n_kv);
  }
  [[nodiscard]] int probability_dim(const CallShape& shape) const override {
    return shape.head_dim;
  }
  void prepare(const kernels::AttentionHead& head, const kernels::Backend& backend,
               const EstimatorMemory& memory) const override {
    vertical_slash_->prepare(head, backend, memory);
  }
  bool codes(const kernels::AttentionHead& head, const kernels::Backend& backend,
             const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
             uint8_t* code) const override {
    stripe_->codes(head, backend, memory, begin, end, lambda, code);
    auto* other = reinterpret_cast<uint8_t*>(memory.scratch);
    for (int64_t m = begin; m < end; ++m) {
      vertical_slash_->codes(head, backend, memory, m, m + 1, lambda, other);
      uint8_t* row = code + (m - begin) * head.n_kv;
      const int64_t keys = head.keys_end(m);  // bytes may alias `head`: not in the loop
      for (int64_t j = 0; j < keys; ++j) row[j] = std::max(row[j], other[j]);
    }
    return true;
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend& backend,
                const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                int64_t e_stride) const override {
    stripe_->rows(head, backend, memory, begin, end, e, e_stride);
    float* other = memory.scratch + larger_scratch({head.n_q, head.n_kv, head.head_dim});
    for (int64_t m = begin; m < end; ++m) {
      vertical_slash_->rows(head, backend, memory, m, m + 1, other, head.n_kv);
      float* row = e + (m - begin) * e_stride;
      for (int64_t j = 0; j < head.keys_end(m); ++j) row[j] = std::max(row[j], other[j]);
    }
  }

 private:
  [[nodiscard]] size_t larger_scratch(const CallShape& shape) const {
    return std::max(stripe_->scratch_floats(shape), vertical_slash_->scratch_floats(shape));
  }
  std::unique_ptr<const Estimator> stripe_;
  std::unique_ptr<const Estimator> vertical_slash_;
};

}  // namespace

std::unique_ptr<const Estimator> make_stripe(const EstimatorParams& params) {
  return std::make_unique<Stripe>(params);
}
std::unique_ptr<const Estimator> make_stripe_vertical_slash(const EstimatorParams& params) {
  return std::make_unique<StripeVerticalSlash>(params);
}

}  // namespace mi::runtime::patterns
