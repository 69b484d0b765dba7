// Where launch.cpp finds the kernels that the .cu sources define.
#pragma once

#include <cstdint>

#include "kernels/half.h"

namespace mi::kernels::cuda {

struct DeviceKernel {
  const void* function = nullptr;  // a __global__ void of one call struct
  uint32_t shared_bytes = 0;
  uint32_t threads = 0;  // of a block
};

template <class T, int kHeadDim>
DeviceKernel attend_kernel();
template <class T, int kHeadDim>
DeviceKernel stripe_kernel();
// Of VerticalCall.
template <class T, int kHeadDim>
DeviceKernel vertical_sums_kernel();
template <class T, int kHeadDim>
DeviceKernel vertical_rows_kernel();
template <class T>
DeviceKernel vertical_evidence_kernel();
template <class T>
DeviceKernel vertical_codes_kernel();
// Of PooledCall and AntidiagonalCall.
template <class T>
DeviceKernel key_means_kernel();
template <class T>
DeviceKernel pooled_kernel();
template <class T, int kHeadDim>
DeviceKernel antidiagonal_kernel();
// Of SpendCall.
DeviceKernel count_tiles_kernel();
DeviceKernel find_threshold_kernel();
// Of SelectCall.
DeviceKernel find_cuts_kernel();
DeviceKernel add_tiles_kernel();
DeviceKernel raise_thresholds_kernel();
DeviceKernel select_keys_kernel();
DeviceKernel report_heads_kernel();  // of ReportCall
DeviceKernel put_words_kernel();     // of PutCall
// Of IndexCall.
DeviceKernel count_keys_kernel();
DeviceKernel order_items_kernel();
DeviceKernel write_keys_kernel();
// Of NormCall, AddCall, RotateCall and ActivateCall.
template <class T>
DeviceKernel norm_kernel();
DeviceKernel add_kernel();
DeviceKernel rotate_kernel();
DeviceKernel activate_kernel();

}  // namespace mi::kernels::cuda
