// Rows of 16-bit elements in shared memory, in chunks of 16 bytes.
#pragma once

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// Eight rows at one column of chunks, what ldmatrix reads at a time, lie in eight different groups
// of four banks: where rows are r * kChunks chunks apart they meet in kShared of the eight groups,
// and the exclusive or moves those rows apart. Rows need no padding at any head dimension.
template <int kHeadDim>
struct Rows {
  static_assert(kHeadDim % 16 == 0, "a product takes 16 elements of a row");
  static constexpr uint32_t kChunks = kHeadDim / 8;
  static constexpr uint32_t kShared = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;

  MI_DEVICE static uint32_t address(uint32_t base, uint32_t row, uint32_t chunk) {
    return base + (row * kChunks + (chunk ^ (row / (8 / kShared) % kShared))) * 16;
  }
};

// All threads copy kRows rows of `from`; index_of(row) says which, kNoRow for zeros.
inline constexpr int64_t kNoRow = -1;
template <class T, int kHeadDim, int kRows, class IndexOf>
MI_DEVICE void block_copy_rows(uint32_t to, const Strided<const T>& from, const IndexOf& index_of) {
  constexpr uint32_t kChunks = Rows<kHeadDim>::kChunks;
  static_assert(kRows * kChunks % kThreads == 0, "every thread copies as many chunks");
  // Unrolled further, addresses take the registers that the products need.
  MI_UNROLL_BY_2
  for (uint32_t i = 0; i < kRows * kChunks / kThreads; ++i) {
    const uint32_t row = (i * kThreads + ptx::thread()) / kChunks;
    const uint32_t chunk = (i * kThreads + ptx::thread()) % kChunks;
    const auto index = index_of(row);
    const bool present = index != kNoRow;
    ptx::copy_async(Rows<kHeadDim>::address(to, row, chunk),
                    from.row(present ? index : 0) + chunk * 8, present);
  }
}

// This warp's 16 rows by 16 columns of A from row-major shared memory, column of chunks `chunk`.
template <int kHeadDim>
MI_DEVICE void warp_load_a(uint32_t (&a)[4], uint32_t base, uint32_t first_row, uint32_t chunk) {
  const uint32_t lane = ptx::thread() % 32;
  ptx::load_matrices(a, Rows<kHeadDim>::address(base, first_row + lane % 16, chunk + lane / 16));
}

// B of two products, 16 keys by 16 elements at `chunk`, whose columns are the rows of K: registers
// 0, 1 are keys 0-7 and 2, 3 keys 8-15.
template <int kHeadDim>
MI_DEVICE void warp_load_keys(uint32_t (&b)[4], uint32_t base, uint32_t first_key, uint32_t chunk) {
  const uint32_t lane = ptx::thread() % 32;
  const uint32_t row = first_key + lane / 16 * 8 + lane % 8;
  ptx::load_matrices(b, Rows<kHeadDim>::address(base, row, chunk + lane / 8 % 2));
}

// B of two products, 16 keys by 16 elements at `chunk`, whose rows are the rows of V: registers 0,
// 1 are elements 0-7 and 2, 3 elements 8-15.
template <int kHeadDim>
MI_DEVICE void warp_load_values(uint32_t (&b)[4], uint32_t base, uint32_t first_key,
                                uint32_t chunk) {
  const uint32_t lane = ptx::thread() % 32;
  ptx::load_matrices_transposed(
      b, Rows<kHeadDim>::address(base, first_key + lane % 16, chunk + lane / 16));
}

}  // namespace mi::kernels::cuda
