#include "kernels/cuda/launch.h"

#include <cuda_runtime_api.h>

#include <array>
#include <string>
#include <utility>

#include "kernels/cuda/device_kernel.cuh"
#include "kernels/cuda/error.h"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {
namespace {

Result<int> attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  MI_CHECK(status_of(cudaDeviceGetAttribute(&value, which, device), "CUDA device"));
  return value;
}

// One kernel for each of kHeadDims.
using KernelTable = std::array<DeviceKernel, kHeadDims.size()>;
template <class T, size_t... kIndex>
KernelTable attend_kernels(std::index_sequence<kIndex...> /*all*/) {
  return {attend_kernel<T, kHeadDims[kIndex]>()...};
}
template <class T, size_t... kIndex>
KernelTable stripe_kernels(std::index_sequence<kIndex...> /*all*/) {
  return {stripe_kernel<T, kHeadDims[kIndex]>()...};
}
template <class T, size_t... kIndex>
KernelTable vertical_sums_kernels(std::index_sequence<kIndex...> /*all*/) {
  return {vertical_sums_kernel<T, kHeadDims[kIndex]>()...};
}
template <class T, size_t... kIndex>
KernelTable vertical_rows_kernels(std::index_sequence<kIndex...> /*all*/) {
  return {vertical_rows_kernel<T, kHeadDims[kIndex]>()...};
}
template <class T, size_t... kIndex>
KernelTable antidiagonal_kernels(std::index_sequence<kIndex...> /*all*/) {
  return {antidiagonal_kernel<T, kHeadDims[kIndex]>()...};
}
constexpr auto kAll = std::make_index_sequence<kHeadDims.size()>();

Result<DeviceKernel> kernel_of(const KernelTable& kernels, int head_dim) {
  std::string known;
  for (size_t i = 0; i < kHeadDims.size(); ++i) {
    if (kHeadDims[i] == head_dim) return kernels[i];
    known += (i == 0 ? "" : ", ") + std::to_string(kHeadDims[i]);
  }
  return fail(Code::unsupported,
              "head_dim: got " + std::to_string(head_dim) + ", CUDA kernels support " + known);
}

Status check_device(const DeviceKernel& kernel) {
  int device = 0;
  MI_CHECK(status_of(cudaGetDevice(&device), "CUDA device"));
  MI_TRY(const int major, attribute(cudaDevAttrComputeCapabilityMajor, device));
  MI_TRY(const int minor, attribute(cudaDevAttrComputeCapabilityMinor, device));
  if (major < 8)
    return fail(Code::device, "CUDA device: got compute capability " + std::to_string(major) + "." +
                                  std::to_string(minor) + ", expected 8.0 or later");
  MI_TRY(const int shared, attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (shared < static_cast<int>(kernel.shared_bytes))
    return fail(Code::device, "CUDA device: got " + std::to_string(shared) +
                                  " bytes of shared memory a block, the kernel needs " +
                                  std::to_string(kernel.shared_bytes));
  return {};
}

Status check_count(const char* what, int64_t count) {
  if (count >= 0 && count <= INT32_MAX) return {};
  return fail(Code::invalid_argument,
              std::string(what) + ": got " + std::to_string(count) + ", expected 0 to 2147483647");
}

// On a device that check_device accepts; blocks of threads, at most 2^31 - 1.
template <class Call>
Status launch(const DeviceKernel& kernel, const Call& call, int64_t blocks, CUstream_st* stream) {
  if (blocks == 0) return {};
  // Above 48 KiB the limit must be raised (cudaFuncSetAttribute in the CUDA runtime API).
  MI_CHECK(
      status_of(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(kernel.shared_bytes)),
                "CUDA kernel"));
  Call argument = call;
  std::array<void*, 1> arguments = {&argument};
  return status_of(
      cudaLaunchKernel(kernel.function, dim3(static_cast<unsigned>(blocks)), dim3(kernel.threads),
                       arguments.data(), kernel.shared_bytes, stream),
      "CUDA kernel");
}

// What attention and estimates have in common.
template <class Call>
Status check_heads(const Call& call) {
  if (call.heads_per_kv < 1)
    return fail(Code::invalid_argument,
                "heads_per_kv: got " + std::to_string(call.heads_per_kv) + ", expected 1 or more");
  if (!(call.softcap >= 0))
    return fail(Code::invalid_argument, "softcap: got " + std::to_string(call.softcap) +
                                            ", expected 0 (none) or a positive number");
  return {};
}

// One block of threads an item.
template <class Call>
Status launch_items(const DeviceKernel& kernel, const Call& call, int64_t items,
                    CUstream_st* stream) {
  MI_CHECK(check_count("items", items));
  MI_CHECK(check_device(kernel));
  return launch(kernel, call, items, stream);
}

}  // namespace

template <class T>
Status launch_attend(const AttendCall<T>& call, int64_t items, int head_dim, CUstream_st* stream) {
  MI_TRY(const DeviceKernel kernel, kernel_of(attend_kernels<T>(kAll), head_dim));
  MI_CHECK(check_heads(call));
  return launch_items(kernel, call, items, stream);
}

template <class T>
Status launch_stripes(const EstimateCall<T>& call, int head_dim, CUstream_st* stream) {
  MI_TRY(const DeviceKernel kernel, kernel_of(stripe_kernels<T>(kAll), head_dim));
  MI_CHECK(check_heads(call));
  return launch_items(kernel, call, call.count * call.groups(), stream);
}

template <class T>
Status launch_vertical(const VerticalCall<T>& call, int head_dim, CUstream_st* stream) {
  MI_TRY(const DeviceKernel sums, kernel_of(vertical_sums_kernels<T>(kAll), head_dim));
  MI_TRY(const DeviceKernel rows, kernel_of(vertical_rows_kernels<T>(kAll), head_dim));
  MI_CHECK(check_heads(call.of));
  const int64_t count = call.of.count;
  MI_CHECK(launch_items(sums, call, count * call.chunks(), stream));
  MI_CHECK(launch_items(rows, call, count * call.chunks(), stream));
  MI_CHECK(launch_items(vertical_evidence_kernel<T>(), call,
                        count * (call.stride() / call.kPositions), stream));
  return launch_items(vertical_codes_kernel<T>(), call, count * call.of.shape.row_blocks(), stream);
}

template <class T>
Status launch_pooled(const PooledCall<T>& call, CUstream_st* stream) {
  MI_CHECK(check_heads(call.of));
  MI_CHECK(launch_items(key_means_kernel<T>(), call, call.kv_heads * call.key_blocks(), stream));
  return launch_items(pooled_kernel<T>(), call, call.of.count * call.of.shape.row_blocks(), stream);
}

template <class T>
Status launch_antidiagonal(const AntidiagonalCall<T>& call, int head_dim, CUstream_st* stream) {
  MI_TRY(const DeviceKernel kernel, kernel_of(antidiagonal_kernels<T>(kAll), head_dim));
  MI_CHECK(check_heads(call.of));
  return launch_items(kernel, call, call.items(), stream);
}

Status launch_select(const SelectCall& call, bool shares_cap, CUstream_st* stream) {
  const int64_t blocks = call.num_heads * call.shape.row_blocks();
  MI_CHECK(check_count("row blocks", blocks));
  MI_CHECK(check_device(find_cuts_kernel()));  // which takes the most of it
  MI_CHECK(launch(find_cuts_kernel(), call, blocks, stream));
  if (shares_cap) {
    MI_CHECK(launch(add_tiles_kernel(), call, call.num_heads, stream));
    MI_CHECK(launch(raise_thresholds_kernel(), call, 1, stream));
  }
  return launch(select_keys_kernel(), call, blocks, stream);
}

Status launch_spend(const SpendCall& call, CUstream_st* stream) {
  MI_CHECK(launch_items(count_tiles_kernel(), call, call.count * call.select.shape.row_blocks(),
                        stream));
  return launch_items(find_threshold_kernel(), call, call.count, stream);
}

Status launch_report(const ReportCall& call, CUstream_st* stream) {
  MI_CHECK(check_device(report_heads_kernel()));
  return launch(report_heads_kernel(), call, call.select.num_heads, stream);
}

Status launch_put(const PutCall& call, CUstream_st* stream) {
  MI_CHECK(check_device(put_words_kernel()));
  return launch(put_words_kernel(), call, 1, stream);
}

Status launch_index(const IndexCall& call, CUstream_st* stream) {
  MI_CHECK(check_count("row blocks", call.size.blocks));
  const DeviceKernel order = order_items_kernel();
  MI_CHECK(check_device(order));  // which takes the most of it
  MI_CHECK(launch(count_keys_kernel(), call, call.size.blocks, stream));
  MI_CHECK(launch(order, call, 1, stream));
  return launch(write_keys_kernel(), call, call.size.blocks, stream);
}

template <class T>
Status launch_norm(const NormCall<T>& call, CUstream_st* stream) {
  return launch_items(norm_kernel<T>(), call, call.rows, stream);
}
Status launch_add(const AddCall& call, CUstream_st* stream) {
  return launch_items(add_kernel(), call, call.rows, stream);
}
Status launch_rotate(const RotateCall& call, CUstream_st* stream) {
  return launch_items(rotate_kernel(), call, call.rows, stream);
}
Status launch_activate(const ActivateCall& call, CUstream_st* stream) {
  constexpr int64_t kOfBlock = kThreads * ActivateCall::kEach;
  return launch_items(activate_kernel(), call, (call.count + kOfBlock - 1) / kOfBlock, stream);
}

template Status launch_attend(const AttendCall<bf16>&, int64_t, int, CUstream_st*);
template Status launch_attend(const AttendCall<f16>&, int64_t, int, CUstream_st*);
template Status launch_stripes(const EstimateCall<bf16>&, int, CUstream_st*);
template Status launch_stripes(const EstimateCall<f16>&, int, CUstream_st*);
template Status launch_vertical(const VerticalCall<bf16>&, int, CUstream_st*);
template Status launch_vertical(const VerticalCall<f16>&, int, CUstream_st*);
template Status launch_pooled(const PooledCall<bf16>&, CUstream_st*);
template Status launch_pooled(const PooledCall<f16>&, CUstream_st*);
template Status launch_antidiagonal(const AntidiagonalCall<bf16>&, int, CUstream_st*);
template Status launch_antidiagonal(const AntidiagonalCall<f16>&, int, CUstream_st*);
template Status launch_norm(const NormCall<bf16>&, CUstream_st*);
template Status launch_norm(const NormCall<float>&, CUstream_st*);

}  // namespace mi::kernels::cuda
