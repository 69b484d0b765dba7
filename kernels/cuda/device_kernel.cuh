// Where launch.cpp finds the kernels that the generated sources define.
#pragma once

#include <cstdint>

#include "kernels/half.h"

namespace mi::kernels::cuda {

struct DeviceKernel {
  const void* function = nullptr;  // of __global__ void(const AttendCall<T>), or of StripeCall
  uint32_t shared_bytes = 0;
};

template <class T, int kHeadDim>
DeviceKernel attend_kernel();
template <class T, int kHeadDim>
DeviceKernel stripe_kernel();

}  // namespace mi::kernels::cuda
