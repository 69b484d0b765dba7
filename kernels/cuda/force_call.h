// What one launch of the forced keys is about. Plain structs, read by the device as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/index_call.h"

namespace mi::kernels::cuda {

// The keys that a head attends whatever its estimate says, in keys or rows, none negative: its
// first `sink` ones, the `local` ones before a row block and the block's own; all keys from row
// blocks that reach into the `last` rows.
struct ForcedKeys {
  int32_t sink = 0;
  int32_t local = 0;
  int32_t last = 0;
  // > 0: a head without an estimate (a_shape), whose bitmaps are written, not read: keys at
  // distances 0 .. window - 1 from the block's first row, too, and as many before them as the last
  // tile of 64 has room for.
  int32_t window = 0;
};

// All pointers are to device memory.
struct ForceCall {
  const RowBlock* blocks = nullptr;   // bitmaps are written; those without one are passed over
  const ForcedKeys* heads = nullptr;  // [sequences, num_heads]
  int32_t num_heads = 0;              // of a sequence
};

}  // namespace mi::kernels::cuda
