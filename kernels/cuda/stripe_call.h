// What one launch of the stripe estimate is about. Plain structs, read by the device as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/attend_call.h"

namespace mi::kernels::cuda {

// Up to 64 consecutive row blocks of one head.
struct StripeItem {
  int32_t sequence = 0;
  int32_t head = 0;
  int32_t first_block = 0;
  float density = 0;  // > 0: key j is selected for block m where e_m[j] exceeds it
  // Bitmap of the item's block r: words[r * word_stride ..], bitmap_words(keys_end) of them are
  // written. 8-byte aligned.
  uint64_t* words = nullptr;
  int64_t word_stride = 0;
};

// All pointers are to device memory. Of the sequences q, k, n_q and n_kv are read.
template <class T>
struct StripeCall {
  const Sequence<T>* sequences = nullptr;
  const StripeItem* items = nullptr;
  int32_t heads_per_kv = 1;
  float scale = 0;    // multiplies q.k
  float softcap = 0;  // 0: none
};

}  // namespace mi::kernels::cuda
