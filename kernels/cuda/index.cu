#include "kernels/cuda/index.cuh"

#include "kernels/cuda/device_kernel.cuh"

namespace mi::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) count_keys(const __grid_constant__ IndexCall call) {
  block_count_keys(call);
}
__global__ void __launch_bounds__(IndexShape::kOrderThreads)
    order_items(const __grid_constant__ IndexCall call) {
  block_order_items(call);
}
__global__ void __launch_bounds__(kThreads) write_keys(const __grid_constant__ IndexCall call) {
  block_write_keys(call);
}

}  // namespace

DeviceKernel count_keys_kernel() {
  return {reinterpret_cast<const void*>(&count_keys), IndexShape::kBytes, kThreads};
}
DeviceKernel order_items_kernel() {
  return {reinterpret_cast<const void*>(&order_items), IndexShape::kOrderBytes,
          IndexShape::kOrderThreads};
}
DeviceKernel write_keys_kernel() {
  return {reinterpret_cast<const void*>(&write_keys), IndexShape::kBytes, kThreads};
}

}  // namespace mi::kernels::cuda
