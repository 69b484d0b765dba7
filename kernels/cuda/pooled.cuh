// The pooled estimate of block_sparse (MInference 1.0, arXiv 2407.02490, section 3): softmax over
// key blocks of the mean query times their mean keys, all in f32, as it is a 4096th of attention's
// products. A key's code is that of its block's share.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/estimate_call.h"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// Of element x of rows [first, end).
template <class T>
MI_DEVICE float thread_mean(const Strided<const T>& of, int64_t first, int64_t end, int64_t x) {
  float sum = 0;
  for (int64_t row = first; row < end; ++row)
    sum += ptx::unpack<T>(ptx::load(of.row(row) + x).bits, 0);
  return sum / static_cast<float>(end - first);
}

// A block of threads a key block of a KV head.
template <class T>
MI_DEVICE void block_key_means(const PooledCall<T>& call) {
  const int64_t kv = ptx::block() / call.key_blocks();
  const int64_t b = ptx::block() % call.key_blocks();
  const Strided<const T> k = call.of.k.of_head(call.first_kv + kv);
  const int64_t end = b * 64 + 64 < call.of.shape.n_kv ? b * 64 + 64 : call.of.shape.n_kv;
  for (int64_t x = ptx::thread(); x < call.head_dim; x += kThreads)
    ptx::store(call.means + (kv * call.head_dim + x) * call.key_blocks() + b,
               thread_mean(k, b * 64, end, x));
}

// A block of threads a row block of a head.
template <class T>
MI_DEVICE void block_code_pooled(const PooledCall<T>& call) {
  const EstimateCall<T>& of = call.of;
  const uint32_t query = ptx::shared_base();
  const uint32_t sums = query + PooledShape::kSums;
  const int64_t m = ptx::block() % of.shape.row_blocks();
  const int64_t index = ptx::load(of.which + ptx::block() / of.shape.row_blocks());
  const int64_t head = of.first_head + index;
  const RowBlock block = row_block(0, 0, m, of.shape.n_q, of.shape.n_kv, nullptr);
  const int64_t rows_end = of.shape.n_q - block.rows_after;
  for (uint32_t x = ptx::thread(); x < static_cast<uint32_t>(call.head_dim); x += kThreads)
    ptx::store_shared_float(query + x * 4,
                            thread_mean(of.q.of_head(head), m * kRowBlock, rows_end, x));
  ptx::barrier();

  const float* means =
      call.means + (head / of.heads_per_kv - call.first_kv) * call.head_dim * call.key_blocks();
  const Exponent exponent(of.scale, of.softcap);
  const auto exponent_of = [&](int64_t b) {
    float sum = 0;
    for (uint32_t x = 0; x < static_cast<uint32_t>(call.head_dim); ++x)
      sum = fmaf(ptx::load_shared_float(query + x * 4),
                 ptx::load(means + x * call.key_blocks() + b), sum);
    return exponent.applied(sum);
  };
  const int64_t visible = (int64_t{block.keys_end} + 63) / 64;
  float top = kNegativeInfinity, sum = 0;
  for (int64_t b = ptx::thread(); b < visible; b += kThreads) {
    const float e = exponent_of(b);
    const float larger = fmaxf(top, e);
    sum = sum * ptx::exp2_approx(top - larger) + ptx::exp2_approx(e - larger);
    top = larger;
  }
  ptx::store_shared_float(sums + ptx::thread() * 8, top);
  ptx::store_shared_float(sums + ptx::thread() * 8 + 4, sum);
  ptx::barrier();
  MI_NO_UNROLL
  for (uint32_t t = 0; t < kThreads; ++t) top = fmaxf(top, ptx::load_shared_float(sums + t * 8));
  sum = 0;
  MI_NO_UNROLL
  for (uint32_t t = 0; t < kThreads; ++t)
    sum += ptx::load_shared_float(sums + t * 8 + 4) *
           ptx::exp2_approx(ptx::load_shared_float(sums + t * 8) - top);
  const Coder coder(of, index);
  const float least = top + ptx::log2_approx(sum) + coder.threshold;
  for (int64_t b = ptx::thread(); b < visible; b += kThreads) {
    uint8_t* codes = of.codes + 64 * (index * of.shape.count() + of.shape.before(m) + b);
    thread_store_block(codes, coder.code(exponent_of(b) - least), 0, 4);
  }
}

}  // namespace mi::kernels::cuda
