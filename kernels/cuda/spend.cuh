// Thresholds of heads that have a share and no threshold: the lowest bin of codes from which on all
// row blocks together execute no more tiles than the head may spend.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/cut.cuh"

namespace mi::kernels::cuda {

// A block of threads a row block.
MI_DEVICE void block_count_tiles(const SpendCall& call) {
  const int64_t slot = ptx::block() / call.select.shape.row_blocks();
  block_count_codes(RowBlockOf(call.select, ptx::load(call.which + slot)));
  for (uint32_t code = ptx::thread(); code < SelectShape::kCodes; code += kThreads)
    ptx::store(call.tiles + ptx::block() * SelectShape::kCodes + code,
               tiles_of(keys_from(static_cast<int32_t>(code))));
}

// A block of threads a head, a thread a code.
MI_DEVICE void block_find_threshold(const SpendCall& call) {
  const uint32_t shared = ptx::shared_base();
  const int64_t row_blocks = call.select.shape.row_blocks();
  const int32_t* tiles = call.tiles + ptx::block() * row_blocks * SelectShape::kCodes;
  int32_t sum = 0;
  for (int64_t m = 0; m < row_blocks; ++m)
    sum += ptx::load(tiles + m * SelectShape::kCodes + ptx::thread());
  ptx::store_shared(shared + ptx::thread() * 4, static_cast<uint32_t>(sum));
  ptx::barrier();
  if (ptx::thread() != 0) return;
  const int64_t head = ptx::load(call.which + ptx::block());
  const auto spent = [&](int32_t lowest) {
    return ptx::load_shared(shared + static_cast<uint32_t>(lowest) * 4);
  };
  // What the forced keys cost, if that is more. Cost falls as the lowest code that is kept rises.
  int32_t affordable = ptx::load(&call.select.heads[head].spend_tiles);
  if (affordable < spent(255)) affordable = spent(255);
  int32_t low = 0, high = 255;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (spent(middle) <= affordable) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  ptx::store(call.found + head,
             low == 0 ? kEveryDensity
                      : ptx::float_of(static_cast<uint32_t>(low + kFirstBin) << kBinShift));
}

}  // namespace mi::kernels::cuda
