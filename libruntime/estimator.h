// A pattern is an estimate e_m[j] >= 0 of the attention mass that key j receives from row block m,
// and one rule selects: key j is attended by block m iff e_m[j] > lambda. Forced keys are +inf.
// Each pattern is one file in patterns/; published count forms are estimates too (e = 1 / the
// smallest factor on the counts that selects the key).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "libruntime/config.h"
#include "libruntime/cost.h"

namespace mi::runtime {

// Row blocks whose estimates are made together: their mean queries fill the kernel's 64 lanes.
inline constexpr int64_t kEstimateGroup = 64;

struct EstimatorParams {
  Pattern pattern = Pattern::dense;
  BlockEstimate estimate = BlockEstimate::pooled;
  int stride = 16;
  bool counts = false;  // vertical_slash, block_sparse: the published form, nothing forced in it
  double vertical = 0;  // counts of vertical_slash
  double slash = 0;
  int64_t sink = 0;
  int64_t local = 0;
  int64_t last = 0;  // the last query rows, dense
  friend bool operator==(const EstimatorParams&, const EstimatorParams&) = default;
};

// Memory of a caller: evidence is kept per head between prepare and rows, scratch is per thread.
struct EstimatorMemory {
  float* evidence = nullptr;
  float* scratch = nullptr;
  void* kernel_scratch = nullptr;
  float* estimates = nullptr;  // [row blocks at a time, n_kv]: select's own
};

// What selecting writes of a head, for row block m at m times the size of one.
struct Selection {
  uint64_t* words = nullptr;   // [bitmap_words(n_kv)]
  int64_t* tiles = nullptr;    // [1]
  uint32_t* raises = nullptr;  // [kRaises + 1] of a head that shares a cap, or null
  uint32_t* bins = nullptr;    // [kHistogramBins] of a head without a threshold, or null
};

class Estimator {
 public:
  explicit Estimator(const EstimatorParams& params) : params_(params) {}
  virtual ~Estimator() = default;
  [[nodiscard]] const EstimatorParams& params() const { return params_; }

  // Operations of prepare and rows over all row blocks.
  [[nodiscard]] virtual double flops(const CallShape& shape) const = 0;
  // Operations of rows alone: what a second pass over the estimates adds.
  [[nodiscard]] virtual double rows_flops(const CallShape& shape) const { return flops(shape); }
  [[nodiscard]] virtual size_t evidence_floats(const CallShape& shape) const = 0;
  [[nodiscard]] virtual size_t scratch_floats(const CallShape& shape) const = 0;
  // Largest `dim` it asks of Backend::probabilities.
  [[nodiscard]] virtual int probability_dim(const CallShape& shape) const = 0;

  // Whether prepare reads keys themselves, not only their probabilities, and rows single queries,
  // not only their means.
  [[nodiscard]] virtual bool reads_keys() const { return false; }
  [[nodiscard]] virtual bool reads_queries() const { return false; }

  // Of the queries only the last 64 rows are read.
  virtual void prepare(const kernels::AttentionHead& head, const kernels::Backend& backend,
                       const EstimatorMemory& memory) const = 0;
  // e [end - begin, n_kv], rows e_stride apart, for row blocks [begin, end) (at most 64);
  // e of block m is written for keys [0, keys_end(m)).
  void rows(const kernels::AttentionHead& head, const kernels::Backend& backend,
            const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
            int64_t e_stride) const;
  // Keys of row blocks [begin, end) above lambda, their last tile filled up unless counts are to be
  // exact. By way of rows, or of codes where kernel and pattern have them: a byte a key. A
  // threshold still to be found wants all of the estimates.
  virtual void select(const kernels::AttentionHead& head, const kernels::Backend& backend,
                      const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
                      const Selection& out) const;
  // The same estimates against lambda as codes [end - begin, n_kv] (kernels::MassCodes) of packed
  // keys, nothing forced; false: the pattern has none.
  virtual bool codes(const kernels::AttentionHead& head, const kernels::Backend& backend,
                     const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
                     uint8_t* code) const;

 protected:
  virtual void estimate(const kernels::AttentionHead& head, const kernels::Backend& backend,
                        const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                        int64_t e_stride) const = 0;

 private:
  EstimatorParams params_;
};

// Throws std::bad_alloc only.
[[nodiscard]] std::unique_ptr<const Estimator> make_estimator(const EstimatorParams& params);

// A pattern's estimate is the largest of its sources', with its own keys forced. Patterns that
// differ in sink, local and last only have equal sources: the search makes each estimate once.
[[nodiscard]] std::vector<EstimatorParams> sources_of(const EstimatorParams& params);
// The keys of a row block that the pattern does not always attend, one range: none of the dense
// last rows, elsewhere those between the sinks and the local window.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};
[[nodiscard]] KeyRange unforced_keys(const EstimatorParams& params,
                                     const kernels::AttentionHead& head, int64_t block);
// Sets e [keys_end(block)] to +inf where the pattern always attends: every key of the dense last
// rows, and the sinks, the local window and the block's own keys of the others.
void force_keys(const EstimatorParams& params, const kernels::AttentionHead& head, int64_t block,
                float* e);
// The same of codes, whose largest value is 255.
void force_keys(const EstimatorParams& params, const kernels::AttentionHead& head, int64_t block,
                uint8_t* code);

// Mean query of row blocks [begin, end), of q_bf16 where that is given: out [end - begin,
// head_dim].
void mean_queries(const kernels::AttentionHead& head, int64_t begin, int64_t end, float* out);

// Backend::probabilities over the head's own keys, f32 or packed; rows.k is filled in.
void key_probabilities(const kernels::AttentionHead& head, const kernels::Backend& backend,
                       kernels::ProbabilityRows rows, void* scratch);

}  // namespace mi::runtime
