// The kernel text as the emulator runs it.
#pragma once

#include "tests/cuda/emulator/ptx.h"

#include "kernels/cuda/attend.cuh"
#include "tests/cuda/layer.h"

namespace mi::test::cuda {

template <class T, int kHeadDim>
Kernel<T> attend_kernel() {
  using Shape = kernels::cuda::TileShape<kHeadDim>;
  return {kHeadDim, Shape::kKeys, Shape::kBytes, [](const kernels::cuda::AttendCall<T>& call) {
            kernels::cuda::block_attend_item<T, kHeadDim>(call);
          }};
}

}  // namespace mi::test::cuda
