// dense, and a_shape (StreamingLLM's sinks and window, arXiv 2309.17453; MInference 1.0 §3).
// With `last` dense rows a_shape is MInference's tri_shape.
#include <algorithm>

#include "libruntime/patterns/patterns.h"

namespace mi::runtime::patterns {
namespace {

class Static final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t evidence_floats(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t scratch_floats(const CallShape&) const override { return 0; }
  [[nodiscard]] int probability_dim(const CallShape&) const override { return 0; }
  void prepare(const kernels::AttentionHead&, const kernels::Backend&,
               const EstimatorMemory&) const override {}

 protected:
  // A key at distance t from the block's first row: e = 1/(t + 1/2), so that e > 1/local keeps
  // distances 0 .. local-1 of some row.
  void estimate(const kernels::AttentionHead& head, const kernels::Backend&, const EstimatorMemory&,
                int64_t begin, int64_t end, float* e, int64_t e_stride) const override {
    for (int64_t m = begin; m < end; ++m) {
      float* row = e + (m - begin) * e_stride;
      const int64_t first = head.first_row(m) + head.offset();
      for (int64_t j = 0; j < head.keys_end(m); ++j)
        row[j] = 1.0f / (static_cast<float>(std::max<int64_t>(0, first - j)) + 0.5f);
    }
  }
};

}  // namespace

std::unique_ptr<const Estimator> make_static(const EstimatorParams& params) {
  return std::make_unique<Static>(params);
}

}  // namespace mi::runtime::patterns
