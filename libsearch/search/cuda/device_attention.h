// Attention of a model's layers by a DevicePlan: the counterpart of PlannedAttention.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/uploads.h"
#include "libruntime/cuda/device_plan.h"
#include "libruntime/plan.h"
#include "libsearch/model/cuda/device_pass.h"

namespace mi::search {

class DeviceAttention {
 public:
  // For a prompt of so many tokens, in chunks of `chunk` queries where that is not 0. Errors: those
  // of DevicePlan; out_of_memory.
  [[nodiscard]] static Result<DeviceAttention> make(const runtime::HeadConfig& config,
                                                    int64_t tokens, int64_t chunk);
  // Layers in turn: layer 0 begins a forward pass. Waits for nothing.
  [[nodiscard]] Status run(const DeviceLayerQkv& layer, kernels::cuda::Strided<bf16> o,
                           CUstream_st* stream) const;
  // Of the last run, [heads]. Waits for it.
  [[nodiscard]] Result<std::vector<runtime::HeadStats>> stats(int layer) const;
  [[nodiscard]] const float* lse() const { return lse_; }  // [heads, tokens] on the device
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Chunk {
    runtime::DevicePlan plan;
    runtime::HeadPlans heads;
    runtime::PlanShape shape;
    double weight = 1;  // of all chunks' dense tiles
    std::byte* table = nullptr;
    double* unspent = nullptr;
    kernels::cuda::HeadReport* reports = nullptr;
  };
  DeviceAttention() = default;
  [[nodiscard]] Status add_chunk(const runtime::HeadConfig& config, const runtime::PlanShape& shape,
                                 kernels::cuda::DeviceStream& stream);

  std::vector<Chunk> chunks_;
  std::vector<std::string> notes_;
  kernels::cuda::Uploads memory_;
  std::byte* workspace_ = nullptr;
  float* lse_ = nullptr;
};

}  // namespace mi::search
