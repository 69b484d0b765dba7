#include "kernels/cuda/select.cuh"

#include "kernels/cuda/device_kernel.cuh"
#include "kernels/cuda/spend.cuh"

namespace mi::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) count_tiles(const __grid_constant__ SpendCall call) {
  block_count_tiles(call);
}
__global__ void __launch_bounds__(SelectShape::kCodes)
    find_threshold(const __grid_constant__ SpendCall call) {
  block_find_threshold(call);
}
__global__ void __launch_bounds__(kThreads) find_cuts(const __grid_constant__ SelectCall call) {
  block_find_cuts(call);
}
__global__ void __launch_bounds__(kThreads) add_tiles(const __grid_constant__ SelectCall call) {
  block_add_tiles(call);
}
__global__ void __launch_bounds__(32) raise_thresholds(const __grid_constant__ SelectCall call) {
  warp_raise_thresholds(call);
}
__global__ void __launch_bounds__(kThreads) select_keys(const __grid_constant__ SelectCall call) {
  block_select_keys(call);
}
__global__ void __launch_bounds__(kThreads) report_heads(const __grid_constant__ ReportCall call) {
  block_report_head(call);
}
__global__ void __launch_bounds__(32) put_words(const __grid_constant__ PutCall call) {
  warp_put_words(call);
}

}  // namespace

DeviceKernel count_tiles_kernel() {
  return {reinterpret_cast<const void*>(&count_tiles), SelectShape::kCutBytes, kThreads};
}
DeviceKernel find_threshold_kernel() {
  return {reinterpret_cast<const void*>(&find_threshold), SelectShape::kThresholdBytes,
          SelectShape::kCodes};
}
DeviceKernel find_cuts_kernel() {
  return {reinterpret_cast<const void*>(&find_cuts), SelectShape::kCutBytes, kThreads};
}
DeviceKernel add_tiles_kernel() {
  return {reinterpret_cast<const void*>(&add_tiles), SelectShape::kSelectBytes, kThreads};
}
DeviceKernel raise_thresholds_kernel() {
  return {reinterpret_cast<const void*>(&raise_thresholds), 0, 32};
}
DeviceKernel select_keys_kernel() {
  return {reinterpret_cast<const void*>(&select_keys), SelectShape::kSelectBytes, kThreads};
}
DeviceKernel report_heads_kernel() {
  return {reinterpret_cast<const void*>(&report_heads), SelectShape::kSelectBytes, kThreads};
}
DeviceKernel put_words_kernel() {
  return {reinterpret_cast<const void*>(&put_words), 0, 32};
}

}  // namespace mi::kernels::cuda
