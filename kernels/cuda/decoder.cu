#include "kernels/cuda/decoder.cuh"

#include "kernels/cuda/device_kernel.cuh"

namespace mi::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) norm_bf16(const __grid_constant__ NormCall<bf16> call) {
  block_norm(call);
}
__global__ void __launch_bounds__(kThreads) norm_f32(const __grid_constant__ NormCall<float> call) {
  block_norm(call);
}
__global__ void __launch_bounds__(kThreads) add(const __grid_constant__ AddCall call) {
  block_add(call);
}
__global__ void __launch_bounds__(kThreads) rotate(const __grid_constant__ RotateCall call) {
  block_rotate(call);
}
__global__ void __launch_bounds__(kThreads) activate(const __grid_constant__ ActivateCall call) {
  block_activate(call);
}

}  // namespace

template <>
DeviceKernel norm_kernel<bf16>() {
  return {reinterpret_cast<const void*>(&norm_bf16), kRowSumBytes, kThreads};
}
template <>
DeviceKernel norm_kernel<float>() {
  return {reinterpret_cast<const void*>(&norm_f32), kRowSumBytes, kThreads};
}
DeviceKernel add_kernel() {
  return {reinterpret_cast<const void*>(&add), kRowSumBytes, kThreads};
}
DeviceKernel rotate_kernel() {
  return {reinterpret_cast<const void*>(&rotate), 0, kThreads};
}
DeviceKernel activate_kernel() {
  return {reinterpret_cast<const void*>(&activate), 0, kThreads};
}

}  // namespace mi::kernels::cuda
