// Prompts of unequal lengths in one call, packed one after another along the token axis, each
// attending only itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libruntime/plan.h"

namespace mi::runtime {

struct Sequence {
  int64_t n_q = 0;
  int64_t n_kv = 0;  // n_kv >= n_q >= 1
};

// Which of the distinct lengths each sequence has, numbered as they first come.
[[nodiscard]] std::vector<size_t> distinct_lengths(std::span<const Sequence> sequences);

class BatchPlan {
 public:
  // shape: its n_q and n_kv are not read. Errors: no sequence; those of Plan::make, with the
  // sequence they are about.
  [[nodiscard]] static Result<BatchPlan> make(const HeadConfig& config, PlanShape shape,
                                              std::span<const Sequence> sequences,
                                              const kernels::Backend& backend, int threads = 0);

  // 64-byte aligned memory that run() needs: that of the longest sequence.
  [[nodiscard]] size_t workspace_bytes() const { return workspace_bytes_; }
  [[nodiscard]] const Plan& plan(size_t sequence) const { return plans_[at_[sequence]]; }

  // q, o [heads, sum of n_q, head_dim]; k, v [kv_heads, sum of n_kv, head_dim]; strides as in
  // Plan::run; lse [heads, sum of n_q] and stats [sequences * heads], sequences outermost, may be
  // empty; unspent [sequences]. Sequences run one after another, each in parallel over heads and
  // row blocks.
  [[nodiscard]] Status run(int layer, TensorView<const float, 3> q, TensorView<const float, 3> k,
                           TensorView<const float, 3> v, TensorView<float, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           std::span<Unspent> unspent) const;
  [[nodiscard]] Status run(int layer, TensorView<const bf16, 3> q, TensorView<const bf16, 3> k,
                           TensorView<const bf16, 3> v, TensorView<bf16, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           std::span<Unspent> unspent) const;
  [[nodiscard]] Status run(int layer, TensorView<const f16, 3> q, TensorView<const f16, 3> k,
                           TensorView<const f16, 3> v, TensorView<f16, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           std::span<Unspent> unspent) const;

 private:
  template <class T>
  Status run_all(int layer, TensorView<const T, 3> q, TensorView<const T, 3> k,
                 TensorView<const T, 3> v, TensorView<T, 3> o, TensorView<float, 2> lse,
                 void* workspace, std::span<HeadStats> stats, std::span<Unspent> unspent) const;

  std::vector<Sequence> sequences_;
  std::vector<Plan> plans_;  // one per distinct length
  std::vector<size_t> at_;   // [sequences] into plans_
  Sequence total_;
  size_t heads_ = 0;
  size_t workspace_bytes_ = 0;
};

}  // namespace mi::runtime
