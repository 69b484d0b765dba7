// The stripe estimate (design: e_m[j] = 64 softmax_j(scale mean_m . k_j), mean_m the mean query of
// row block m; stripe granularity as in AnchorAttention, arXiv 2505.23520) as codes against the
// head's threshold: 64 mean queries against all keys that they see, once for the sum of each
// softmax and once for the codes.
//
// The mean is kept as two elements, itself rounded and what that lost: 16 bits of it with bf16, as
// its rounding alone would move a score of 20 by 0.04 and the estimate by 4 %.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/estimate_call.h"
#include "kernels/cuda/tile.cuh"

namespace mi::kernels::cuda {

// The two rows of means in shared memory; rows past the last row block are 0.
template <class T, int kHeadDim>
MI_DEVICE void block_store_means(const Strided<const T>& q, int64_t first_block, int64_t n_q,
                                 uint32_t shared) {
  constexpr uint32_t kChunks = Rows<kHeadDim>::kChunks;
  for (uint32_t i = ptx::thread(); i < 64 * kChunks; i += kThreads) {
    const uint32_t row = i / kChunks;
    const uint32_t chunk = i % kChunks;
    const int64_t first = (first_block + row) * kRowBlock;
    const int64_t end = first + kRowBlock < n_q ? first + kRowBlock : n_q;
    float sum[8] = {};
    for (int64_t token = first; token < end; ++token) {
      const auto values =
          ptx::load(reinterpret_cast<const ptx::Bytes16*>(q.row(token) + chunk * 8));
      MI_UNROLL
      for (int x = 0; x < 8; ++x) sum[x] += ptx::unpack<T>(values.word[x / 2], x % 2);
    }
    const float inverse = first < end ? 1.0f / static_cast<float>(end - first) : 0.0f;
    const uint32_t to = Rows<kHeadDim>::address(shared, row, chunk);
    MI_UNROLL
    for (uint32_t pair = 0; pair < 4; ++pair) {
      const float low = sum[2 * pair] * inverse;
      const float high = sum[2 * pair + 1] * inverse;
      const uint32_t rounded = ptx::pack<T>(low, high);
      ptx::store_shared(to + pair * 4, rounded);
      ptx::store_shared(
          to + pair * 4 + StripeShape<kHeadDim>::kMeanBytes,
          ptx::pack<T>(low - ptx::unpack<T>(rounded, 0), high - ptx::unpack<T>(rounded, 1)));
    }
  }
}

template <class T, int kHeadDim>
MI_DEVICE void block_code_stripes(const EstimateCall<T>& call) {
  using Shape = StripeShape<kHeadDim>;
  constexpr int kTile = Shape::kKeys;
  using Scores = float[kTile / 8][4];
  const int lane = ptx::thread() % 32;
  const int warp_row = ptx::thread() / 32 * kWarpRows;
  const uint32_t shared = ptx::shared_base();
  const int64_t n_q = call.shape.n_q;
  const int64_t n_kv = call.shape.n_kv;
  // The latest row blocks first, which see the most keys.
  const int64_t first_block =
      (call.count * call.groups() - 1 - ptx::block()) / call.count * call.kGroup;
  const int64_t index = ptx::load(call.which + ptx::block() % call.count);
  const int64_t head = call.first_head + index;
  const Strided<const T> k = call.k.of_head(head / call.heads_per_kv);

  // Keys that a row block sees, as its last row does; none past the last row block.
  const auto keys_end = [&](int row) {
    const int64_t first = (first_block + row) * kRowBlock;
    if (first >= n_q) return int64_t{0};
    return (first + kRowBlock < n_q ? first + kRowBlock : n_q) + n_kv - n_q;
  };
  const int64_t end[2] = {keys_end(warp_row + lane / 4), keys_end(warp_row + lane / 4 + 8)};
  const int64_t last = (first_block + call.kGroup) * kRowBlock;
  const int64_t longest = (last < n_q ? last : n_q) + n_kv - n_q;
  const int tiles = static_cast<int>((longest + 63) / 64 * (64 / kTile));  // of whole words

  const auto stage = [&](int tile) {
    return shared + Shape::kStage +
           static_cast<uint32_t>(tile % Shape::kStages) * Shape::kStageBytes;
  };
  const auto copy_tile = [&](int tile) {
    block_copy_rows<T, kHeadDim, kTile>(stage(tile), k, [&](int slot) {
      const int64_t key = int64_t{tile} * kTile + slot;
      return key < longest ? key : kNoRow;
    });
  };
  const Exponent exponent(call.scale, call.softcap);
  const auto score = [&](Scores& s, int tile) {
    MI_UNROLL
    for (uint32_t step = 0; step < kHeadDim / 16; ++step) {
      uint32_t rounded[4], lost[4];
      warp_load_a<kHeadDim>(rounded, shared, warp_row, 2 * step);
      warp_load_a<kHeadDim>(lost, shared + Shape::kMeanBytes, warp_row, 2 * step);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; j += 2) {
        uint32_t b[4];
        warp_load_keys<kHeadDim>(b, stage(tile), 8 * j, 2 * step);
        ptx::multiply_add<T>(s[j], rounded, b[0], b[1]);
        ptx::multiply_add<T>(s[j], lost, b[0], b[1]);
        ptx::multiply_add<T>(s[j + 1], rounded, b[2], b[3]);
        ptx::multiply_add<T>(s[j + 1], lost, b[2], b[3]);
      }
    }
    exponent.apply(s);
    MI_UNROLL
    for (int j = 0; j < kTile / 8; ++j) {
      MI_UNROLL
      for (int x = 0; x < 4; ++x) {
        const int64_t key = int64_t{tile} * kTile + 8 * j + lane % 4 * 2 + x % 2;
        if (key >= end[x / 2]) s[j][x] = kNegativeInfinity;
      }
    }
  };
  // Every tile once, each scored while the next one is copied.
  const auto for_each_tile = [&](const auto& use) {
    copy_tile(0);
    ptx::commit_copies();
    for (int tile = 0; tile < tiles; ++tile) {
      ptx::wait_copies<0>();
      ptx::barrier();
      if (tile + 1 < tiles) copy_tile(tile + 1);
      ptx::commit_copies();
      Scores s = {};
      score(s, tile);
      use(s, tile);
    }
    ptx::barrier();
  };

  block_store_means<T, kHeadDim>(call.q.of_head(head), first_block, n_q, shared);
  SoftmaxState softmax;
  for_each_tile([&](Scores& s, int) {
    float shrink[2];
    softmax.update(s, exponent.factor, shrink);
  });
  softmax.finish();
  // log2 of a row's sum times its threshold.
  const Coder coder(call, index);
  float least[2];
  uint8_t* to[2];
  MI_UNROLL
  for (int half = 0; half < 2; ++half) {
    least[half] = softmax.top[half] * exponent.factor + ptx::log2_approx(softmax.sum[half]) +
                  coder.threshold - 6;  // 64 rows
    const int64_t block = first_block + warp_row + lane / 4 + 8 * half;
    to[half] = call.codes + 64 * (index * call.shape.count() + call.shape.before(block));
  }
  for_each_tile([&](Scores& s, int tile) {
    MI_UNROLL
    for (int half = 0; half < 2; ++half) {
      const bool present = int64_t{tile} * kTile < (end[half] + 63) / 64 * 64;
      // Two neighbours have four codes of column j and of column j + 1 between them: each stores
      // one four.
      MI_UNROLL
      for (int j = 0; j < kTile / 8; j += 2) {
        uint32_t pair[2];
        MI_UNROLL
        for (int of = 0; of < 2; ++of) {
          const float low = fmaf(s[j + of][2 * half], exponent.factor, -least[half]);
          const float high = fmaf(s[j + of][2 * half + 1], exponent.factor, -least[half]);
          pair[of] = coder.code(low) | coder.code(high) << 8;
        }
        const uint32_t other = ptx::shuffle_xor(lane % 2 == 0 ? pair[1] : pair[0], 1);
        const uint32_t four = lane % 2 == 0 ? pair[0] | other << 16 : other | pair[1] << 16;
        const int64_t key = int64_t{tile} * kTile + 8 * (j + lane % 2) + lane % 4 / 2 * 4;
        if (present) ptx::store(reinterpret_cast<uint32_t*>(to[half] + key), four);
      }
    }
  });
}

}  // namespace mi::kernels::cuda
