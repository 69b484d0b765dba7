// Prompts of unequal lengths on a CUDA device in one call, packed one after another along the token
// axis, each attending only itself: the counterpart of libruntime/batch_plan.h.
//
// State: run by the emulator of tests/cuda only, never on hardware. Sequences are launched one
// after another, so short ones leave a device idle that a launch of all of them would fill.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "libruntime/batch_plan.h"
#include "libruntime/cuda/device_plan.h"

namespace mi::runtime {

class DeviceBatchPlan {
 public:
  // shape: its n_q and n_kv are not read. Errors: no sequence; those of DevicePlan::make, with the
  // sequence they are about.
  [[nodiscard]] static Result<DeviceBatchPlan> make(const HeadConfig& config, PlanShape shape,
                                                    std::span<const Sequence> sequences,
                                                    const DeviceOptions& options = {});

  // As DevicePlan's; the workspace is that of the longest sequence.
  [[nodiscard]] size_t table_bytes() const { return table_bytes_; }
  [[nodiscard]] size_t workspace_bytes() const { return workspace_bytes_; }
  [[nodiscard]] Status upload(std::byte* table, CUstream_st* stream) const;

  // `tensors` hold all sequences: q, o and lse the sum of n_q tokens, k and v that of n_kv; their
  // n_q and n_kv are not read. memory.unspent [sequences], memory.reports [sequences, heads] or
  // null. Errors: as DevicePlan::run.
  template <class T>
  [[nodiscard]] Status run(int layer, const kernels::cuda::Sequence<T>& tensors,
                           const DeviceMemory& memory, CUstream_st* stream) const;

 private:
  std::vector<Sequence> sequences_;
  std::vector<DevicePlan> plans_;  // one per distinct length
  std::vector<size_t> at_;         // [sequences] into plans_
  std::vector<size_t> tables_;     // [plans] offsets
  size_t heads_ = 0;
  size_t table_bytes_ = 0;
  size_t workspace_bytes_ = 0;
};

}  // namespace mi::runtime
