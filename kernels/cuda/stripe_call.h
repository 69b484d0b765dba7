// What one launch of the stripe estimate is about. Plain structs, read by the device as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/select_call.h"

namespace mi::kernels::cuda {

// Some heads of a layer of one sequence. All pointers are to device memory.
template <class T>
struct StripeCall {
  Strided<const T> q;  // as in Sequence
  Strided<const T> k;
  HeadWords shape;                  // n_q, n_kv
  const HeadRule* heads = nullptr;  // as in SelectCall; of them the density is read
  const int32_t* which = nullptr;   // [count] indices into `heads`
  int32_t count = 0;
  int32_t first_head = 0;  // of heads[0] among the layer's
  int32_t heads_per_kv = 1;
  float scale = 0;           // multiplies q.k
  float softcap = 0;         // 0: none
  uint8_t* codes = nullptr;  // as in SelectCall; those of `which` are written

  // A block of threads each: up to 64 row blocks of a head.
  [[nodiscard]] MI_BOTH int64_t items() const {
    return count * ((shape.row_blocks() + kStripeBlocks - 1) / kStripeBlocks);
  }
  static constexpr int64_t kStripeBlocks = 64;
};

}  // namespace mi::kernels::cuda
