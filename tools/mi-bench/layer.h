// One attention layer of random bf16 tensors for the benchmarks, and plans over it.
#pragma once

#include <cstdint>
#include <vector>

#include "libruntime/wave_input.h"
#include "libruntime/plan.h"
#include "tools/mi-bench/timing.h"

namespace mi::tools {

inline constexpr int kHeads = 8;
inline constexpr int kKvHeads = 2;

// q [8, n_q, dim], k and v [2, n_kv, dim]. Queries are four times a standard normal: estimates then
// differ enough to be selected by.
struct LayerTensors {
  int64_t n_q, n_kv;
  int head_dim;
  Tensor<bf16, 3> q, k, v, o;
  LayerTensors(int64_t queries, int64_t keys, int dim, uint64_t seed);
};

// All heads with one entry.
class LayerPlan {
 public:
  [[nodiscard]] static Result<LayerPlan> make(const LayerTensors& layer,
                                              const runtime::HeadEntry& entry,
                                              const kernels::Backend& backend, int threads,
                                              int64_t dense_below = 0);
  // The density whose plan costs `share` of dense attention, to a percent of it.
  [[nodiscard]] static Result<LayerPlan> with_share(LayerTensors& layer, runtime::HeadEntry entry,
                                                    double share, const kernels::Backend& backend,
                                                    int threads);
  [[nodiscard]] Status run(LayerTensors& layer);
  // Of the last run: executed tiles, and the share of dense that they and the estimates cost.
  [[nodiscard]] int64_t tiles() const;
  [[nodiscard]] double share() const;
  [[nodiscard]] const runtime::HeadEntry& entry() const { return entry_; }
  [[nodiscard]] size_t workspace_bytes() const { return workspace_.size(); }

 private:
  LayerPlan(runtime::Plan plan, const runtime::HeadEntry& entry)
      : plan_(std::move(plan)), entry_(entry), workspace_(plan_.workspace_bytes()) {}
  runtime::Plan plan_;
  runtime::HeadEntry entry_;
  AlignedBuffer<std::byte> workspace_;
  std::vector<runtime::HeadStats> stats_ = std::vector<runtime::HeadStats>(kHeads);
};

// What a plan does before attention, alone: keys packed, mass estimated, keys selected.
class LayerEstimate {
 public:
  LayerEstimate(const LayerTensors& layer, const runtime::HeadEntry& entry,
                const kernels::Backend& backend, int threads);
  // Keys must be packed before they are estimated.
  void pack();
  void estimate();

 private:
  const kernels::Backend& backend_;
  int threads_;
  float lambda_ = 0;
  runtime::CallShape call_;
  std::unique_ptr<const runtime::Estimator> estimator_;
  std::unique_ptr<const runtime::WaveInput> input_;
  AlignedBuffer<std::byte> packed_, kernel_scratch_;
  AlignedBuffer<float> wide_keys_, evidence_, scratch_, estimates_, queries_;
  AlignedBuffer<uint64_t> words_;
  AlignedBuffer<int64_t> tiles_;
};

}  // namespace mi::tools
