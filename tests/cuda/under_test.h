// The kernels on the machine that this executable is for: make_launch, machine_ready, kOnDevice.
#pragma once

#include "kernels/cuda/tile_shape.h"
#include "tests/support.h"

#ifdef MI_ON_DEVICE
#include "tests/cuda/on_device.h"
namespace mi::test::cuda {
using namespace on_device;  // NOLINT
}
#else
#include "tests/cuda/on_emulator.h"
namespace mi::test::cuda {
using namespace on_emulator;  // NOLINT
}
#endif

namespace mi::test::cuda {

template <class T, int kHeadDim>
Kernel<T> attend_kernel() {
  return {kHeadDim, kernels::cuda::TileShape<kHeadDim>::kKeys,
          make_launch<T, kHeadDim, kernels::cuda::AttendCall<T>, int64_t>};
}

}  // namespace mi::test::cuda

// First words of a test case: skips it, visibly, where there is no such machine.
#define MI_NEEDS_MACHINE()                                        \
  do {                                                            \
    const ::mi::Status ready = ::mi::test::cuda::machine_ready(); \
    if (!ready) MI_SKIP(ready.what);                              \
  } while (false)
