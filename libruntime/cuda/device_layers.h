// A head-config made ready for a CUDA device, as far as that needs no toolkit: what to upload, how
// the workspace is divided, and every launch of a layer as a plain struct.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/index_call.h"
#include "kernels/cuda/select_call.h"
#include "kernels/cuda/estimate_call.h"
#include "libruntime/plan_heads.h"

namespace mi::runtime {

struct DeviceOptions {
  // Heads of a layer run together, and pool their caps, as many as fit into so many bytes of
  // workspace; one at least.
  size_t wave_bytes = size_t{1} << 30;
};

// All of it is device memory.
struct DeviceMemory {
  const std::byte* table = nullptr;  // a copy of DeviceLayers::table(), 256-byte aligned
  std::byte* workspace = nullptr;    // [workspace_bytes()], 256-byte aligned
  // [1] what the layers run so far left of their share caps, in tiles: 0 at the start of a forward
  // pass, then handed from layer to layer.
  double* unspent = nullptr;
  kernels::cuda::HeadReport* reports = nullptr;  // [heads], or null
};

// Codes of the heads that have some, in this order.
template <class T>
struct EstimateCalls {
  kernels::cuda::EstimateCall<T> stripes;
  kernels::cuda::VerticalCall<T> vertical;  // joins codes of stripes
  kernels::cuda::PooledCall<T> pooled;
  std::array<kernels::cuda::AntidiagonalCall<T>, 2> antidiagonals;  // of strides 8 and 16
};

// What some heads of a layer launch, in this order.
template <class T>
struct WaveCalls {
  kernels::cuda::PutCall put;  // first wave of a layer
  EstimateCalls<T> bins;       // of heads that spend tiles, to find their thresholds
  kernels::cuda::SpendCall spend;
  EstimateCalls<T> codes;
  kernels::cuda::SelectCall select;
  bool shares_cap = false;
  kernels::cuda::IndexCall index;
  kernels::cuda::AttendCall<T> attend;  // of index.size.blocks items
  kernels::cuda::ReportCall report;     // where reports are wanted
};

// Both call `launch` with each call that has work.
template <class T, class Launch>
[[nodiscard]] Status for_each_launch(const EstimateCalls<T>& calls, const Launch& launch) {
  if (calls.stripes.count > 0) MI_CHECK(launch(calls.stripes));
  if (calls.vertical.of.count > 0) MI_CHECK(launch(calls.vertical));
  if (calls.pooled.of.count > 0) MI_CHECK(launch(calls.pooled));
  for (const auto& antidiagonal : calls.antidiagonals)
    if (antidiagonal.of.count > 0) MI_CHECK(launch(antidiagonal));
  return {};
}
template <class T, class Launch>
[[nodiscard]] Status for_each_launch(const WaveCalls<T>& calls, const Launch& launch) {
  if (calls.put.count > 0) MI_CHECK(launch(calls.put));
  if (calls.spend.count > 0) {
    MI_CHECK(for_each_launch(calls.bins, launch));
    MI_CHECK(launch(calls.spend));
  }
  MI_CHECK(for_each_launch(calls.codes, launch));
  MI_CHECK(launch(calls.select, calls.shares_cap));
  MI_CHECK(launch(calls.index));
  MI_CHECK(launch(calls.attend, calls.index.size.blocks));
  if (calls.report.heads != nullptr) MI_CHECK(launch(calls.report));
  return {};
}

class DeviceLayers {
 public:
  // Errors: as Plan::make; unsupported, for what the device does not offer yet, naming the head.
  [[nodiscard]] static Result<DeviceLayers> make(const HeadConfig& config, const PlanShape& shape,
                                                 const DeviceOptions& options);

  [[nodiscard]] const PlanShape& shape() const { return shape_; }
  [[nodiscard]] const std::vector<std::byte>& table() const { return table_; }
  [[nodiscard]] size_t workspace_bytes() const { return workspace_bytes_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  [[nodiscard]] int layers() const { return static_cast<int>(waves_.size()); }
  [[nodiscard]] int waves() const { return static_cast<int>(waves_.front().size()); }

  // What a wave of a layer launches. n_q and n_kv of `tensors` are the plan's own. Errors:
  // invalid_argument, for memory that is null or not aligned.
  template <class T>
  [[nodiscard]] Result<WaveCalls<T>> wave(int layer, int wave,
                                          const kernels::cuda::Sequence<T>& tensors,
                                          const DeviceMemory& memory) const;

 private:
  // Heads of a wave that one estimate is for: the table lists them.
  struct HeadList {
    size_t place = 0;
    int count = 0;
  };
  struct EstimateLists {
    HeadList stripes, vertical, pooled, antidiagonal_8, antidiagonal_16;
  };
  struct Wave {
    int first = 0;  // of the layer's heads
    int count = 0;
    EstimateLists estimates;
    EstimateLists bins;  // of those that spend tiles
    HeadList spending;
    bool shares_cap = false;
    double cap = 0;
  };
  struct Places;  // of a wave's arrays in the workspace

  template <class Has>
  HeadList list_heads(std::span<const HeadPlan> heads, const Has& has);
  template <class Has>
  EstimateLists list_estimates(std::span<const HeadPlan> heads, const Has& has);
  Wave make_wave(std::span<const HeadPlan> heads, int first);
  [[nodiscard]] kernels::cuda::IndexSize index_size(int heads) const;
  [[nodiscard]] Places places(int heads) const;
  // `shared` is what the calls have in common but for their heads.
  template <class T>
  [[nodiscard]] EstimateCalls<T> estimate_calls(const EstimateLists& lists, const Wave& wave,
                                                const kernels::cuda::EstimateCall<T>& shared,
                                                const DeviceMemory& memory) const;

  PlanShape shape_;
  kernels::cuda::HeadWords words_;
  std::vector<std::string> notes_;
  std::vector<std::vector<Wave>> waves_;  // [layers]
  int wave_heads_ = 1;
  int most_vertical_ = 0;  // heads of a layer
  int most_spending_ = 0;
  bool has_pooled_ = false;
  std::vector<std::byte> table_;  // rules [layers, heads], then what else waves list
  size_t workspace_bytes_ = 0;
};

}  // namespace mi::runtime
