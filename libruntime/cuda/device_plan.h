// A head-config made ready for one shape of call on a CUDA device (compute capability 8.0 or
// later): the counterpart of libruntime/plan.h, with its selection, tile filling and pooled caps.
// Planning validates and sizes everything; running a layer launches kernels on the caller's stream,
// allocates nothing and waits for nothing, so a CUDA graph can capture it.
//
// State: the kernels have been run by the emulator of tests/cuda only, never on hardware.
//
// Offered: bf16 and f16; every pattern by density, by share or by both, caps pooled, chunks of a
// prompt. Not offered, and refused by make(): f32, and the published forms by counts. One sequence
// a call. Unlike on the CPU a row block runs dense not where gathering is slow but where its keys
// find no room in the index (DeviceLayers), and a head without a threshold that looks at columns
// and diagonals finds those twice.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "libruntime/cuda/device_layers.h"

struct CUstream_st;

namespace mi::runtime {

class DevicePlan {
 public:
  // Needs no device. Errors: as Plan::make; unsupported, for what is not offered, naming the head.
  [[nodiscard]] static Result<DevicePlan> make(const HeadConfig& config, const PlanShape& shape,
                                               const DeviceOptions& options = {});

  // Device memory that the caller gives, 256-byte aligned: a table, filled once by upload() and
  // read by every run, and a workspace, for one run at a time.
  [[nodiscard]] size_t table_bytes() const { return layers_.table().size(); }
  [[nodiscard]] size_t workspace_bytes() const { return layers_.workspace_bytes(); }
  [[nodiscard]] const std::vector<std::string>& notes() const { return layers_.notes(); }
  [[nodiscard]] int layers() const { return layers_.layers(); }

  // Before the first run, on its stream or waited for; not within a capture. The plan must live
  // until the stream gets there.
  [[nodiscard]] Status upload(std::byte* table, CUstream_st* stream) const;

  // Kernels are loaded when they are first launched: before a capture, run a layer once.
  // o and lse (which may be null) are complete when the stream gets there. n_q and n_kv of
  // `tensors` are the plan's own; T is its element. Errors: unsupported strides or alignment
  // (kernels::cuda::check_sequence), no device, a refused launch.
  template <class T>
  [[nodiscard]] Status run(int layer, const kernels::cuda::Sequence<T>& tensors,
                           const DeviceMemory& memory, CUstream_st* stream) const;

 private:
  explicit DevicePlan(DeviceLayers layers) : layers_(std::move(layers)) {}
  DeviceLayers layers_;
};

}  // namespace mi::runtime
