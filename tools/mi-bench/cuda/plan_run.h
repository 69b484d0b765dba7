// One layer of a DevicePlan, stripes of one density in every head.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device.h"
#include "libruntime/cuda/device_plan.h"

namespace mi::tools {

class PlanRun {
 public:
  using Tensors = kernels::cuda::Sequence<bf16>;

  // With the density whose plan executes `share` of dense attention's tiles, to a percent of it.
  [[nodiscard]] static Result<PlanRun> with_share(const Tensors& tensors, int head_dim,
                                                  double share,
                                                  kernels::cuda::DeviceStream& stream);
  [[nodiscard]] Status launch(CUstream_st* stream) const;
  // Of dense attention's tiles, in the last run.
  [[nodiscard]] Result<double> executed() const;
  // Keys of a row block of the last head in the last run, a bitmap; empty: every key.
  [[nodiscard]] Result<std::vector<uint64_t>> keys(int64_t block) const;

 private:
  PlanRun(const Tensors& tensors, runtime::DevicePlan plan, runtime::DeviceLayers layers)
      : tensors_(tensors), plan_(std::move(plan)), layers_(std::move(layers)) {}
  [[nodiscard]] static Result<PlanRun> make(const Tensors& tensors, int head_dim, double density,
                                            kernels::cuda::DeviceStream& stream);
  [[nodiscard]] runtime::DeviceMemory memory() const;

  Tensors tensors_;
  runtime::DevicePlan plan_;
  runtime::DeviceLayers layers_;  // the plan's: where it puts what
  kernels::cuda::DeviceBuffer table_, workspace_, unspent_, reports_;
};

}  // namespace mi::tools
