// Kernels of estimates that are the same for every head dimension.
#include "kernels/cuda/device_kernel.cuh"
#include "kernels/cuda/pooled.cuh"
#include "kernels/cuda/vertical.cuh"

namespace mi::kernels::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    vertical_evidence(const __grid_constant__ VerticalCall<T> call) {
  block_vertical_evidence(call);
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    vertical_codes(const __grid_constant__ VerticalCall<T> call) {
  block_vertical_codes(call);
}

template <class T>
__global__ void __launch_bounds__(kThreads) key_means(const __grid_constant__ PooledCall<T> call) {
  block_key_means(call);
}
template <class T>
__global__ void __launch_bounds__(kThreads) pooled(const __grid_constant__ PooledCall<T> call) {
  block_code_pooled(call);
}

}  // namespace

template <class T>
DeviceKernel vertical_evidence_kernel() {
  return {reinterpret_cast<const void*>(&vertical_evidence<T>), kDiagonalBytes, kThreads};
}
template <class T>
DeviceKernel vertical_codes_kernel() {
  return {reinterpret_cast<const void*>(&vertical_codes<T>), 0, kThreads};
}

template <class T>
DeviceKernel key_means_kernel() {
  return {reinterpret_cast<const void*>(&key_means<T>), 0, kThreads};
}
template <class T>
DeviceKernel pooled_kernel() {
  return {reinterpret_cast<const void*>(&pooled<T>), PooledShape::kBytes, kThreads};
}

template DeviceKernel vertical_evidence_kernel<bf16>();
template DeviceKernel vertical_evidence_kernel<f16>();
template DeviceKernel vertical_codes_kernel<bf16>();
template DeviceKernel vertical_codes_kernel<f16>();
template DeviceKernel key_means_kernel<bf16>();
template DeviceKernel key_means_kernel<f16>();
template DeviceKernel pooled_kernel<bf16>();
template DeviceKernel pooled_kernel<f16>();

}  // namespace mi::kernels::cuda
