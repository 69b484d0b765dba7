// Prefix sums over the threads of a block.
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace mi::kernels::cuda {

// The sum of `value` over the threads before this one; `total`: over all kBlockThreads of them.
// `shared`: block_sum_bytes(kBlockThreads), 4-byte aligned.
template <uint32_t kBlockThreads>
MI_DEVICE int64_t block_sum_before(int64_t value, uint32_t shared, int64_t& total) {
  const uint32_t lane = ptx::thread() % 32;
  const uint32_t warp = ptx::thread() / 32;
  int64_t before = 0;
  int64_t of_warp = value;
  MI_UNROLL
  for (uint32_t mask = 1; mask < 32; mask *= 2) {
    const int64_t other = ptx::shuffle_xor(of_warp, static_cast<int>(mask));
    if ((lane & mask) != 0) before += other;
    of_warp += other;
  }
  ptx::barrier();  // the sums before these have been read
  if (lane == 0) {
    ptx::store_shared(shared + warp * 8, static_cast<uint32_t>(of_warp));
    ptx::store_shared(shared + warp * 8 + 4, static_cast<uint32_t>(of_warp >> 32));
  }
  ptx::barrier();
  total = 0;
  for (uint32_t w = 0; w < kBlockThreads / 32; ++w) {
    const auto low = static_cast<uint32_t>(ptx::load_shared(shared + w * 8));
    const int64_t sum = int64_t{ptx::load_shared(shared + w * 8 + 4)} << 32 | low;
    if (w < warp) before += sum;
    total += sum;
  }
  return before;
}

}  // namespace mi::kernels::cuda
