// An f32 copy of bf16 numbers, in memory that is kept from one use to the next.
#pragma once

#include <cstdint>

#include "kernels/half.h"
#include "kernels/tensor_view.h"

namespace mi::search {

class WideTensor {
 public:
  // Valid until the next call; `from` may have any strides of its first two axes.
  TensorView<const float, 3> of(TensorView<const bf16, 3> from, int threads) {
    if (wide_.view().extent != from.extent) wide_ = Tensor<float, 3>(from.extent);
    const int64_t rows = from.extent[0] * from.extent[1];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t head = row / from.extent[1];
      const int64_t at = row % from.extent[1];
      widen(from[head][at].data, from.stride[1], 1, from.extent[2], wide_.view()[head][at].data);
    }
    return wide_.view();
  }

 private:
  Tensor<float, 3> wide_;
};

}  // namespace mi::search
