// The vertical_slash estimate (MInference 1.0, arXiv 2407.02490, algorithm 2, as expected mass): of
// the last 64 query rows, the mass of every column and of every diagonal. Launches:
//   sums   a block of threads 4096 keys of a head: the rows' largest terms and sums over them
//   rows   the same: the rows' probabilities
//   evidence  a block of threads 128 positions of a head: e of columns and of distances
//   codes  a block of threads a row block
//
// Rejected: one launch of one block a head, which at 128K tokens would hold 32 of a hundred
// multiprocessors for 2048 tiles one after the other.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/estimate_call.h"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile.cuh"

namespace mi::kernels::cuda {

// Where a head's sums over a chunk of keys are: of 64 rows the exponents, then the sums.
template <class T>
MI_DEVICE float* partial_of(const VerticalCall<T>& call, int64_t slot, int64_t chunk) {
  return call.partial + (slot * call.chunks() + chunk) * 128;
}

// log2 of a row's sum over all chunks; 0 for one that is not there.
template <class T>
MI_DEVICE float row_sum(const VerticalCall<T>& call, int64_t slot, int row, int rows) {
  if (row >= rows) return 0;
  float top = kNegativeInfinity;
  for (int64_t c = 0; c < call.chunks(); ++c)
    top = fmaxf(top, ptx::load(partial_of(call, slot, c) + row));
  float sum = 0;
  for (int64_t c = 0; c < call.chunks(); ++c) {
    const float* partial = partial_of(call, slot, c) + row;
    sum += ptx::load(partial + 64) * ptx::exp2_approx(ptx::load(partial) - top);
  }
  return top + ptx::log2_approx(sum);
}

// kStore: probabilities, by way of the sums; else the sums.
template <class T, int kHeadDim, bool kStore>
MI_DEVICE void block_vertical(const VerticalCall<T>& call) {
  using Shape = VerticalShape<kHeadDim>;
  constexpr int kTile = Shape::kKeys;
  using Scores = float[kTile / 8][4];
  const EstimateCall<T>& of = call.of;
  const int lane = ptx::thread() % 32;
  const int warp_row = ptx::thread() / 32 * kWarpRows;
  const int row[2] = {warp_row + lane / 4, warp_row + lane / 4 + 8};
  const uint32_t shared = ptx::shared_base();
  const int64_t slot = ptx::block() / call.chunks();
  const int64_t chunk = ptx::block() % call.chunks();
  const int64_t head = of.first_head + ptx::load(of.which + slot);
  const int64_t n_kv = of.shape.n_kv;
  const int rows = of.shape.n_q < 64 ? static_cast<int>(of.shape.n_q) : 64;
  const Strided<const T> q = of.q.of_head(head);
  const Strided<const T> k = of.k.of_head(head / of.heads_per_kv);
  const int64_t first_key = chunk * call.kChunkKeys;
  const int64_t chunk_end = first_key + call.kChunkKeys;
  const int64_t keys_end = chunk_end < n_kv ? chunk_end : n_kv;
  const int tiles = static_cast<int>((keys_end - first_key + kTile - 1) / kTile);

  const auto stage = [&](int tile) {
    return shared + Shape::kStage +
           static_cast<uint32_t>(tile % Shape::kStages) * Shape::kStageBytes;
  };
  const auto copy_tile = [&](int tile) {
    block_copy_rows<T, kHeadDim, kTile>(stage(tile), k, [&](int slot_of_tile) {
      const int64_t key = first_key + int64_t{tile} * kTile + slot_of_tile;
      return key < keys_end ? key : kNoRow;
    });
  };
  const Exponent exponent(of.scale, of.softcap);
  // Rows that there are not see no key.
  const auto score = [&](Scores& s, int tile) {
    MI_UNROLL
    for (uint32_t step = 0; step < kHeadDim / 16; ++step) {
      uint32_t a[4];
      warp_load_a<kHeadDim>(a, shared, warp_row, 2 * step);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; j += 2) {
        uint32_t b[4];
        warp_load_keys<kHeadDim>(b, stage(tile), 8 * j, 2 * step);
        ptx::multiply_add<T>(s[j], a, b[0], b[1]);
        ptx::multiply_add<T>(s[j + 1], a, b[2], b[3]);
      }
    }
    exponent.apply(s);
    MI_UNROLL
    for (int j = 0; j < kTile / 8; ++j) {
      MI_UNROLL
      for (int x = 0; x < 4; ++x) {
        const int64_t key = first_key + int64_t{tile} * kTile + 8 * j + lane % 4 * 2 + x % 2;
        if (row[x / 2] >= rows || key > n_kv - rows + row[x / 2]) s[j][x] = kNegativeInfinity;
      }
    }
  };

  block_copy_rows<T, kHeadDim, 64>(
      shared, q, [&](int r) { return r < rows ? of.shape.n_q - rows + r : kNoRow; });
  copy_tile(0);
  ptx::commit_copies();
  const auto for_each_tile = [&](const auto& use) {
    for (int tile = 0; tile < tiles; ++tile) {
      ptx::wait_copies<0>();
      ptx::barrier();
      if (tile + 1 < tiles) copy_tile(tile + 1);
      ptx::commit_copies();
      Scores s = {};
      score(s, tile);
      use(s, tile);
    }
  };
  if constexpr (kStore) {
    float whole[2];
    MI_UNROLL
    for (int half = 0; half < 2; ++half) whole[half] = row_sum(call, slot, row[half], rows);
    for_each_tile([&](Scores& s, int tile) {
      MI_UNROLL
      for (int half = 0; half < 2; ++half) {
        float* p = call.p + (slot * 64 + row[half]) * call.stride() + first_key +
                   int64_t{tile} * kTile + lane % 4 * 2;
        MI_UNROLL
        for (int j = 0; j < kTile / 8; ++j)
          ptx::store(reinterpret_cast<ptx::Floats2*>(p + 8 * j),
                     {ptx::exp2_approx(fmaf(s[j][2 * half], exponent.factor, -whole[half])),
                      ptx::exp2_approx(fmaf(s[j][2 * half + 1], exponent.factor, -whole[half]))});
      }
    });
  } else {
    SoftmaxState softmax;
    for_each_tile([&](Scores& s, int) {
      float shrink[2];
      softmax.update(s, exponent.factor, shrink);
    });
    softmax.finish();
    if (lane % 4 != 0) return;
    MI_UNROLL
    for (int half = 0; half < 2; ++half) {
      float* partial = partial_of(call, slot, chunk) + row[half];
      ptx::store(partial, softmax.top[half] * exponent.factor);
      ptx::store(partial + 64, softmax.sum[half]);
    }
  }
}

template <class T>
MI_DEVICE void block_vertical_evidence(const VerticalCall<T>& call) {
  constexpr int64_t kPositions = VerticalCall<T>::kPositions;
  static_assert(kPositions == kThreads);
  const int64_t n_kv = call.of.shape.n_kv;
  const int64_t slot = ptx::block() / (call.stride() / kPositions);
  const int64_t first = ptx::block() % (call.stride() / kPositions) * kPositions;
  const int64_t rows = call.of.shape.n_q < 64 ? call.of.shape.n_q : 64;
  const float* p = call.p + slot * 64 * call.stride();
  float* evidence = call.evidence + slot * call.evidence_floats();
  const float per_row = 1.0f / static_cast<float>(rows);

  const int64_t at = first + ptx::thread();
  float column = 0;
  if (at < n_kv)
    for (int64_t r = 0; r < rows; ++r) column += ptx::load(p + r * call.stride() + at);
  ptx::store(evidence + at, column * 64.0f * per_row);

  // The diagonal at distance t has key n_kv - rows + r - t in row r.
  const uint32_t diagonals = ptx::shared_base();
  for (uint32_t i = ptx::thread(); i < kPositions + 63; i += kThreads) {
    float sum = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t key = n_kv - rows + r - (first + i);
      if (key >= 0) sum += ptx::load(p + r * call.stride() + key);
    }
    ptx::store_shared_float(diagonals + i * 4, sum);
  }
  ptx::barrier();
  float mass = 0;
  for (uint32_t i = 0; i < 64; ++i)
    mass += ptx::load_shared_float(diagonals + (ptx::thread() + i) * 4);
  ptx::store(evidence + call.stride() + at, mass * per_row);
}

template <class T>
MI_DEVICE void block_vertical_codes(const VerticalCall<T>& call) {
  const EstimateCall<T>& of = call.of;
  const int64_t slot = ptx::block() / of.shape.row_blocks();
  const int64_t m = ptx::block() % of.shape.row_blocks();
  const int64_t index = ptx::load(of.which + slot);
  const HeadRule* rule = of.heads + index;
  const bool joins = ptx::load(&rule->joins) != 0;
  const Coder coder(of, index);
  const RowBlock block = row_block(0, 0, m, of.shape.n_q, of.shape.n_kv, nullptr);
  const float* column = call.evidence + slot * call.evidence_floats();
  const float* slash = column + call.stride();
  auto* codes =
      reinterpret_cast<uint32_t*>(of.codes + 64 * (index * of.shape.count() + of.shape.before(m)));
  for (int64_t at = ptx::thread(); at * 4 < block.keys_end; at += kThreads) {
    const uint32_t others = joins ? ptx::load(codes + at) : 0;
    uint32_t four = 0;
    MI_UNROLL
    for (int x = 0; x < 4; ++x) {
      const int64_t key = at * 4 + x;
      // Distance 0 is forced, and its diagonal covers the block's own keys.
      uint32_t code = 255;
      if (key < block.first_key)
        code = coder.code(
            ptx::log2_approx(ptx::load(column + key) + ptx::load(slash + (block.first_key - key))) -
            coder.threshold);
      const uint32_t other = others >> (8 * x) & 0xff;
      four |= (code > other ? code : other) << (8 * x);
    }
    ptx::store(codes + at, four);
  }
}

}  // namespace mi::kernels::cuda
