// The antidiagonal estimate of block_sparse (XAttention, arXiv 2503.16428, section 2.1): groups of
// `stride` queries in reverse times groups of as many keys in order, softmax over key groups, and
// of each 64 x 64 block the share. A block of threads takes 64 query groups of `stride` row blocks;
// the product of two groups is a sum over their members, which come one after the other.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/estimate_call.h"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile.cuh"

namespace mi::kernels::cuda {

template <class T, int kHeadDim>
MI_DEVICE void block_code_antidiagonals(const AntidiagonalCall<T>& call) {
  using Shape = AntidiagonalShape<kHeadDim>;
  constexpr int kTile = Shape::kKeys;  // key groups
  using Scores = float[kTile / 8][4];
  const EstimateCall<T>& of = call.of;
  const int lane = ptx::thread() % 32;
  const int warp_row = ptx::thread() / 32 * kWarpRows;
  const int row[2] = {warp_row + lane / 4, warp_row + lane / 4 + 8};
  const uint32_t shared = ptx::shared_base();
  const int stride = call.stride;
  const int in_block = kRowBlock / stride;  // groups of a block of rows or keys
  const int64_t n_q = of.shape.n_q;
  const int64_t n_kv = of.shape.n_kv;
  // The latest row blocks first, which see the most keys.
  const int64_t first_block = (call.items() - 1 - ptx::block()) / of.count * stride;
  const int64_t index = ptx::load(of.which + ptx::block() % of.count);
  const int64_t head = of.first_head + index;
  const Strided<const T> q = of.q.of_head(head);
  const Strided<const T> k = of.k.of_head(head / of.heads_per_kv);

  const auto first_row = [&](int group) { return first_block * kRowBlock + group * stride; };
  // Key groups that a query group sees; none past the last query.
  const auto visible = [&](int group) {
    return first_row(group) < n_q ? (first_row(group) + n_kv - n_q) / stride + 1 : int64_t{0};
  };
  const int64_t end[2] = {visible(row[0]), visible(row[1])};
  const auto blocks_of = [&](int64_t m) {
    if (m >= of.shape.row_blocks()) return int64_t{0};
    return (int64_t{row_block(0, 0, m, n_q, n_kv, nullptr).keys_end} + 63) / 64;
  };
  const int64_t last =
      first_block + stride < of.shape.row_blocks() ? first_block + stride : of.shape.row_blocks();
  const int tiles = static_cast<int>((blocks_of(last - 1) * in_block + kTile - 1) / kTile);

  const auto stage = [&](int step) {
    return shared + static_cast<uint32_t>(step % Shape::kStages) * Shape::kStageBytes;
  };
  const auto copy_step = [&](int step) {
    const int member = step % stride;
    block_copy_rows<T, kHeadDim, 64>(stage(step), q, [&](int group) {
      const int64_t token = first_row(group) + stride - 1 - member;
      return token < n_q ? token : kNoRow;
    });
    block_copy_rows<T, kHeadDim, kTile>(stage(step) + Shape::kKeyPart, k, [&](int group) {
      const int64_t key = (int64_t{step / stride} * kTile + group) * stride + member;
      return key < n_kv ? key : kNoRow;
    });
  };
  const Exponent exponent(of.scale / static_cast<float>(stride), of.softcap);
  const auto add_products = [&](Scores& s, uint32_t from) {
    MI_UNROLL
    for (uint32_t step = 0; step < kHeadDim / 16; ++step) {
      uint32_t a[4];
      warp_load_a<kHeadDim>(a, from, warp_row, 2 * step);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; j += 2) {
        uint32_t b[4];
        warp_load_keys<kHeadDim>(b, from + Shape::kKeyPart, 8 * j, 2 * step);
        ptx::multiply_add<T>(s[j], a, b[0], b[1]);
        ptx::multiply_add<T>(s[j + 1], a, b[2], b[3]);
      }
    }
  };
  const auto for_each_tile = [&](const auto& use) {
    copy_step(0);
    ptx::commit_copies();
    for (int tile = 0; tile < tiles; ++tile) {
      Scores s = {};
      for (int step = tile * stride; step < (tile + 1) * stride; ++step) {
        ptx::wait_copies<0>();
        ptx::barrier();
        if (step + 1 < tiles * stride) copy_step(step + 1);
        ptx::commit_copies();
        add_products(s, stage(step));
      }
      exponent.apply(s);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; ++j) {
        MI_UNROLL
        for (int x = 0; x < 4; ++x) {
          const int64_t group = int64_t{tile} * kTile + 8 * j + lane % 4 * 2 + x % 2;
          if (group >= end[x / 2]) s[j][x] = kNegativeInfinity;
        }
      }
      use(s, tile);
    }
    ptx::barrier();
  };

  SoftmaxState softmax;
  for_each_tile([&](Scores& s, int) {
    float shrink[2];
    softmax.update(s, exponent.factor, shrink);
  });
  softmax.finish();
  float whole[2];
  MI_UNROLL
  for (int half = 0; half < 2; ++half)
    whole[half] = end[half] == 0
                      ? 0.0f
                      : softmax.top[half] * exponent.factor + ptx::log2_approx(softmax.sum[half]);
  const Coder coder(of, index);
  for_each_tile([&](Scores& s, int tile) {
    MI_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int64_t m = first_block + row[half] / in_block;
      const int64_t left = (n_q - m * kRowBlock + stride - 1) / stride;
      const auto rows = static_cast<float>(left < in_block ? left : in_block);
      const int64_t key_blocks = blocks_of(m);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; ++j) {
        // Over the block's 4 or 8 columns, then its 4 or 8 rows.
        float share = 0;
        MI_UNROLL
        for (int x = 2 * half; x < 2 * half + 2; ++x)
          share += ptx::exp2_approx(fmaf(s[j][x], exponent.factor, -whole[half]));
        MI_UNROLL
        for (int mask = 1; mask < 32; mask *= 2) {
          const float other = ptx::shuffle_xor(share, mask);
          if (in_block == 8 || (mask != 2 && mask != 16)) share += other;
        }
        const int64_t b =
            (int64_t{tile} * kTile + 8 * j) / in_block + (in_block == 8 ? 0 : lane % 4 / 2);
        // Of the 8 or 32 threads that have this share four store it.
        const bool stores = in_block == 8 ? lane % 4 == 0 && lane < 16 : lane % 2 == 0;
        if (!stores || b >= key_blocks) continue;
        thread_store_block(of.codes + 64 * (index * of.shape.count() + of.shape.before(m) + b),
                           coder.code(ptx::log2_approx(share / rows) - coder.threshold),
                           lane / 4 % 4, lane / 4 % 4 + 1);
      }
    }
  });
}

}  // namespace mi::kernels::cuda
