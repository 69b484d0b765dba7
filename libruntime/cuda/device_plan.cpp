#include "libruntime/cuda/device_plan.h"

#include <cuda_runtime_api.h>

#include <fmt/format.h>

#include "kernels/cuda/launch.h"

namespace mi::runtime {
namespace {

template <class T>
struct Launch {
  int head_dim;
  CUstream_st* stream;

  Status operator()(const kernels::cuda::PutCall& call) const {
    return kernels::cuda::launch_put(call, stream);
  }
  Status operator()(const kernels::cuda::EstimateCall<T>& call) const {
    return kernels::cuda::launch_stripes(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::VerticalCall<T>& call) const {
    return kernels::cuda::launch_vertical(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::PooledCall<T>& call) const {
    return kernels::cuda::launch_pooled(call, stream);
  }
  Status operator()(const kernels::cuda::AntidiagonalCall<T>& call) const {
    return kernels::cuda::launch_antidiagonal(call, head_dim, stream);
  }
  Status operator()(const kernels::cuda::SpendCall& call) const {
    return kernels::cuda::launch_spend(call, stream);
  }
  Status operator()(const kernels::cuda::SelectCall& call, bool shares_cap) const {
    return kernels::cuda::launch_select(call, shares_cap, stream);
  }
  Status operator()(const kernels::cuda::IndexCall& call) const {
    return kernels::cuda::launch_index(call, stream);
  }
  Status operator()(const kernels::cuda::AttendCall<T>& call, int64_t items) const {
    return kernels::cuda::launch_attend(call, items, head_dim, stream);
  }
  Status operator()(const kernels::cuda::ReportCall& call) const {
    return kernels::cuda::launch_report(call, stream);
  }
};

}  // namespace

Result<DevicePlan> DevicePlan::make(const HeadConfig& config, const PlanShape& shape,
                                    const DeviceOptions& options) {
  MI_TRY(DeviceLayers layers, DeviceLayers::make(config, shape, options));
  return DevicePlan(std::move(layers));
}

Status DevicePlan::upload(std::byte* table, CUstream_st* stream) const {
  const cudaError_t error =
      cudaMemcpyAsync(table, layers_.table().data(), table_bytes(), cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();  // else the caller's next check finds it
  return fail(Code::device, fmt::format("plan's table: {} (CUDA error {})",
                                        cudaGetErrorString(error), static_cast<int>(error)));
}

template <class T>
Status DevicePlan::run(int layer, const kernels::cuda::Sequence<T>& tensors,
                       const DeviceMemory& memory, CUstream_st* stream) const {
  kernels::cuda::Sequence<T> own = tensors;
  own.n_q = layers_.shape().n_q;
  own.n_kv = layers_.shape().n_kv;
  MI_CHECK(kernels::cuda::check_sequence(own));
  for (int wave = 0; wave < layers_.waves(); ++wave) {
    MI_TRY(const WaveCalls<T> calls, layers_.wave(layer, wave, own, memory));
    MI_CHECK(for_each_launch(calls, Launch<T>{layers_.shape().head_dim, stream}));
  }
  return {};
}

template Status DevicePlan::run(int, const kernels::cuda::Sequence<bf16>&, const DeviceMemory&,
                                CUstream_st*) const;
template Status DevicePlan::run(int, const kernels::cuda::Sequence<f16>&, const DeviceMemory&,
                                CUstream_st*) const;

}  // namespace mi::runtime
