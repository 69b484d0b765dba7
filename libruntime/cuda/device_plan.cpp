#include "libruntime/cuda/device_plan.h"

#include "kernels/cuda/device.h"
#include "libruntime/cuda/launcher.h"

namespace mi::runtime {

Result<DevicePlan> DevicePlan::make(const HeadConfig& config, const PlanShape& shape,
                                    const DeviceOptions& options) {
  MI_TRY(DeviceLayers layers, DeviceLayers::make(config, shape, options));
  return DevicePlan(std::move(layers));
}

Status DevicePlan::upload(std::byte* table, CUstream_st* stream) const {
  return kernels::cuda::upload(table, layers_.table().data(), table_bytes(), stream);
}

template <class T>
Status DevicePlan::run(int layer, const kernels::cuda::Sequence<T>& tensors,
                       const DeviceMemory& memory, CUstream_st* stream) const {
  kernels::cuda::Sequence<T> own = tensors;
  own.n_q = layers_.shape().n_q;
  own.n_kv = layers_.shape().n_kv;
  MI_CHECK(kernels::cuda::check_sequence(own));
  const Launcher<T> launch{layers_.shape().head_dim, stream};
  for (int wave = 0; wave < layers_.waves(); ++wave) {
    MI_TRY(const WaveCalls<T> calls, layers_.wave(layer, wave, own, memory));
    MI_CHECK(launch(calls));
  }
  return {};
}

template Status DevicePlan::run(int, const kernels::cuda::Sequence<bf16>&, const DeviceMemory&,
                                CUstream_st*) const;
template Status DevicePlan::run(int, const kernels::cuda::Sequence<f16>&, const DeviceMemory&,
                                CUstream_st*) const;

}  // namespace mi::runtime
