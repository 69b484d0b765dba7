// Flash attention forward of one row block of one head (FlashAttention-2, arXiv 2307.08691,
// algorithm 1) on mma.sync.m16n8k16, for sm_80 and everything after it. A block of 128 threads
// takes 64 query rows, a warp 16 of them; tiles of keys are copied by cp.async into one of two
// stages while the other is worked on, with one barrier a tile.
//
// Goals: one text for dense and sparse; a gathered key costs what a key of a run costs but for its
// 16-byte reads; any n_q <= n_kv; 64-bit offsets. Non-goals: wgmma and TMA.
//
// State: run by the emulator of tests/cuda only. It has never run on hardware, and no number here
// is a measured one.
#pragma once

#include "kernels/cuda/key_source.cuh"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile.cuh"

namespace mi::kernels::cuda {

// Stores a warp's 16 rows of o and lse; `softmax` is finished. Reads the work item again instead of
// keeping what it says in registers all the way.
template <class T, int kHeadDim>
MI_DEVICE void warp_store(const AttendCall<T>& call, const SoftmaxState& softmax, float factor,
                          const float (&o)[kHeadDim / 8][4]) {
  const int lane = ptx::thread() % 32;
  const int warp_row = ptx::thread() / 32 * kWarpRows;
  const uint32_t shared_query = ptx::shared_base() + TileShape<kHeadDim>::kQuery;
  const WorkItem item = ptx::load(call.items + ptx::block());
  const Sequence<T>* sequence = call.sequences + item.sequence;
  const int64_t first_row = int64_t{item.block} * kRowBlock;
  const int64_t rows = ptx::load(&sequence->n_q) - first_row;

  float* lse = ptx::load(&sequence->lse);
  if (lse != nullptr && lane % 4 == 0) {
    lse += item.head * ptx::load(&sequence->lse_head_stride) + first_row;
    MI_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row + lane / 4 + 8 * half;
      if (row < rows) ptx::store(lse + row, softmax.lse(half, factor));
    }
  }
  // Through shared memory, so that a warp stores whole rows: each warp's in place of its own rows
  // of Q, which no other warp reads.
  ptx::warp_barrier();
  MI_UNROLL
  for (int n = 0; n < kHeadDim / 8; ++n) {
    MI_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float inverse = softmax.inverse_sum(half);
      const int row = warp_row + lane / 4 + 8 * half;
      ptx::store_shared(
          Rows<kHeadDim>::address(shared_query, row, n) + static_cast<uint32_t>(lane % 4) * 4,
          ptx::pack<T>(o[n][2 * half] * inverse, o[n][2 * half + 1] * inverse));
    }
  }
  ptx::warp_barrier();
  const Strided<T> out = ptx::load(&sequence->o).of_head(item.head);
  constexpr int kChunks = Rows<kHeadDim>::kChunks;
  MI_UNROLL
  for (int i = lane; i < kWarpRows * kChunks; i += 32) {
    const int row = warp_row + i / kChunks;
    if (row >= rows) continue;
    T* to = out.row(first_row + row) + i % kChunks * 8;
    ptx::store(reinterpret_cast<ptx::Bytes16*>(to),
               ptx::load_shared_16(Rows<kHeadDim>::address(shared_query, row, i % kChunks)));
  }
}

template <class T, int kHeadDim, class Keys>
MI_DEVICE void block_attend(const AttendCall<T>& call, const WorkItem& item, Keys keys) {
  using Shape = TileShape<kHeadDim>;
  constexpr int kTile = Shape::kKeys;
  constexpr int kSteps = kHeadDim / 16;  // products along a row of Q or K

  const int lane = ptx::thread() % 32;
  const int warp_row = ptx::thread() / 32 * kWarpRows;
  const uint32_t shared = ptx::shared_base();
  const uint32_t shared_query = shared + Shape::kQuery;

  // Of the sequence only what is needed is read, where it is needed: registers are scarce.
  const Sequence<T>* sequence = call.sequences + item.sequence;
  const int kv_head = item.head / call.heads_per_kv;
  const Strided<const T> k = ptx::load(&sequence->k).of_head(kv_head);
  const Strided<const T> v = ptx::load(&sequence->v).of_head(kv_head);
  const int64_t n_q = ptx::load(&sequence->n_q);
  const int64_t offset = ptx::load(&sequence->n_kv) - n_q;
  const int64_t first_row = int64_t{item.block} * kRowBlock;
  const int64_t rows_left = n_q - first_row;
  const int rows = rows_left < kRowBlock ? static_cast<int>(rows_left) : kRowBlock;
  const int tiles = static_cast<int>((int64_t{keys.count} + kTile - 1) / kTile);

  const auto copy_query = [&] {
    const Strided<const T> q = ptx::load(&sequence->q).of_head(item.head);
    block_copy_rows<T, kHeadDim, kRowBlock>(
        shared_query, q, [&](int row) { return row < rows ? first_row + row : kNoRow; });
  };
  const auto stage = [&](int tile) {
    return shared + Shape::kStage +
           static_cast<uint32_t>(tile % Shape::kStages) * Shape::kStageBytes;
  };
  const auto copy_tile = [&](int tile) {
    const auto copy = [&](uint32_t to, const Strided<const T>& from) {
      block_copy_rows<T, kHeadDim, kTile>(to, from, [&](int slot) {
        const int32_t key = keys.key(tile, slot);
        return key != kNoKey ? key : static_cast<int32_t>(kNoRow);
      });
    };
    copy(stage(tile), k);
    copy(stage(tile) + Shape::kKeyBytes, v);
  };

  // The last key that this thread's two rows see. Rows past n_q see what the last one does; what
  // they hold is not stored.
  const auto last_key = [&](int row) {
    const int of = row < rows ? row : rows - 1;
    return static_cast<int32_t>(first_row + of + offset);
  };
  const int32_t limit[2] = {last_key(warp_row + lane / 4), last_key(warp_row + lane / 4 + 8)};
  const int32_t least_limit = last_key(warp_row);
  const auto mask = [&](float(&s)[kTile / 8][4], int tile) {
    bool hidden = false;
    MI_UNROLL
    for (int slot = 0; slot < kTile; slot += 32)
      hidden = hidden || keys.key(tile, slot + lane) > least_limit;
    if (!ptx::any(hidden)) return;
    MI_UNROLL
    for (int j = 0; j < kTile / 8; ++j) {
      MI_UNROLL
      for (int x = 0; x < 4; ++x) {
        const int32_t key = keys.key(tile, 8 * j + lane % 4 * 2 + x % 2);
        if (key > limit[x / 2]) s[j][x] = kNegativeInfinity;
      }
    }
  };

  uint32_t query[Shape::kKeepQuery ? kSteps : 1][4];
  const auto load_query = [&](int step) {
    warp_load_a<kHeadDim>(query[Shape::kKeepQuery ? step : 0], shared_query, warp_row, 2 * step);
  };
  const auto score = [&](float(&s)[kTile / 8][4], uint32_t shared_k) {
    MI_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (!Shape::kKeepQuery) load_query(step);
      MI_UNROLL
      for (int j = 0; j < kTile / 8; j += 2) {
        uint32_t b[4];
        warp_load_keys<kHeadDim>(b, shared_k, 8 * j, 2 * step);
        ptx::multiply_add<T>(s[j], query[Shape::kKeepQuery ? step : 0], b[0], b[1]);
        ptx::multiply_add<T>(s[j + 1], query[Shape::kKeepQuery ? step : 0], b[2], b[3]);
      }
    }
  };
  // Probabilities lie in registers as products leave them; packed in pairs they are what a product
  // takes as A.
  const auto add_output = [&](float(&o)[kHeadDim / 8][4], const float(&p)[kTile / 8][4],
                              uint32_t shared_v) {
    MI_UNROLL
    for (int j = 0; j < kTile / 8; j += 2) {
      const uint32_t a[4] = {ptx::pack<T>(p[j][0], p[j][1]), ptx::pack<T>(p[j][2], p[j][3]),
                             ptx::pack<T>(p[j + 1][0], p[j + 1][1]),
                             ptx::pack<T>(p[j + 1][2], p[j + 1][3])};
      MI_UNROLL
      for (int n = 0; n < kHeadDim / 8; n += 2) {
        uint32_t b[4];
        warp_load_values<kHeadDim>(b, shared_v, 8 * j, n);
        ptx::multiply_add<T>(o[n], a, b[0], b[1]);
        ptx::multiply_add<T>(o[n + 1], a, b[2], b[3]);
      }
    }
  };

  copy_query();
  ptx::commit_copies();
  keys.prepare(0);
  keys.prepare(1);
  ptx::barrier();
  if (tiles > 0) copy_tile(0);
  ptx::commit_copies();
  ptx::wait_copies<1>();
  ptx::barrier();
  if (Shape::kKeepQuery) {
    MI_UNROLL
    for (int step = 0; step < kSteps; ++step) load_query(step);
  }

  const Exponent exponent(call.scale, call.softcap);
  SoftmaxState softmax;
  float o[kHeadDim / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    // After this barrier every thread's copies of this tile are here, and none reads the stage of
    // the tile before it any more.
    ptx::wait_copies<0>();
    ptx::barrier();
    if (tile + 1 < tiles) copy_tile(tile + 1);
    ptx::commit_copies();
    keys.prepare(tile + 2);

    float s[kTile / 8][4] = {};
    score(s, stage(tile));
    exponent.apply(s);
    mask(s, tile);
    float shrink[2];
    softmax.update(s, exponent.factor, shrink);
    MI_UNROLL
    for (int n = 0; n < kHeadDim / 8; ++n) {
      MI_UNROLL
      for (int x = 0; x < 4; ++x) o[n][x] *= shrink[x / 2];
    }
    add_output(o, s, stage(tile) + Shape::kKeyBytes);
  }

  softmax.finish();
  warp_store<T, kHeadDim>(call, softmax, exponent.factor, o);
}

// The row block that this block of threads has on the work list.
template <class T, int kHeadDim>
MI_DEVICE void block_attend_item(const AttendCall<T>& call) {
  using Shape = TileShape<kHeadDim>;
  const WorkItem item = ptx::load(call.items + ptx::block());
  if (item.selection == kEveryKey) {
    const Sequence<T>* sequence = call.sequences + item.sequence;
    const int64_t n_q = ptx::load(&sequence->n_q);
    const int64_t rows_end = (int64_t{item.block} + 1) * kRowBlock;
    const int64_t end = (rows_end < n_q ? rows_end - n_q : 0) + ptx::load(&sequence->n_kv);
    block_attend<T, kHeadDim>(call, item, EveryKey<Shape>{static_cast<int32_t>(end)});
  } else {
    const Selection selection = ptx::load(call.selections + item.selection);
    block_attend<T, kHeadDim>(call, item, SelectedKeys<Shape>(selection, call.runs, call.columns));
  }
}

}  // namespace mi::kernels::cuda
