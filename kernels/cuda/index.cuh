// The index build: bitmaps of selected keys become runs, columns and a work list, longest first,
// the same as WorkList makes of them on the host. Three launches:
//   count   a block of threads a row block: how many runs, keys of runs and columns it has
//   order   one block of threads: where each row block's begin, and the order of the work
//   write   a block of threads a row block: its runs and columns
//
// Goals: no atomics, so the same bits every time; workspace of a size known before; 64-bit offsets.
// A row block without room for its keys attends all of them. Rejected: one launch that waits for
// the row blocks before it (decoupled look-back) and so reads bitmaps once, not twice: a key's bit
// is 1/2048 of its K and V at d = 64, and the order needs every count anyway.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/index_call.h"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// 64 keys of a bitmap, by what becomes of them.
struct KeyWord {
  uint64_t run_keys;
  uint64_t run_starts;
  uint64_t columns;
};

// Bit j: bits j to j + 7 of high:low are set.
MI_DEVICE uint64_t eight_from(uint64_t low, uint64_t high) {
  static_assert(kShortestRun == 8);
  MI_UNROLL
  for (int step = 1; step < 8; step *= 2) {
    low &= low >> step | high << (64 - step);
    high &= high >> step;
  }
  return low;
}

// Word `index` of the bitmap; empty where there is none. A stretch is long if it holds eight keys
// in a row, which its neighbours' nearest seven bits decide.
MI_DEVICE KeyWord thread_split_word(const RowBlock& of, int64_t index) {
  const int64_t count = (int64_t{of.keys_end} + 63) / 64;
  const auto word = [&](int64_t at) {
    if (at < 0 || at >= count) return uint64_t{0};
    const uint64_t bits = ptx::load(of.keys + at);
    return at + 1 < count ? bits : bits & ~uint64_t{0} >> (count * 64 - of.keys_end);
  };
  const uint64_t last = word(index - 1);
  const uint64_t here = word(index);
  uint64_t before = eight_from(last, here);
  uint64_t run_keys = eight_from(here, word(index + 1));
  MI_UNROLL
  for (int step = 1; step < 8; step *= 2) {
    run_keys |= run_keys << step | before >> (64 - step);
    before |= before << step;
  }
  return {run_keys, run_keys & ~(here << 1 | last >> 63), here & ~run_keys};
}

// Whether the keys of a row block have room, given where they begin.
MI_DEVICE bool fits(const IndexSize& size, const Selection& of) {
  return of.first_run + of.runs <= size.runs && of.first_column + of.columns <= size.columns;
}

MI_DEVICE void block_count_keys(const IndexCall& call) {
  const RowBlock of = ptx::load(call.blocks + ptx::block());
  int64_t runs = 0, run_keys = 0, columns = 0;
  if (of.keys != nullptr)
    for (int64_t at = ptx::thread(); at * 64 < of.keys_end; at += kThreads) {
      const KeyWord word = thread_split_word(of, at);
      runs += ptx::count_bits(word.run_starts);
      run_keys += ptx::count_bits(word.run_keys);
      columns += ptx::count_bits(word.columns);
    }
  Selection selection;
  int64_t total;
  block_sum_before<kThreads>(runs, ptx::shared_base(), total);
  selection.runs = static_cast<int32_t>(total);
  block_sum_before<kThreads>(run_keys, ptx::shared_base(), total);
  selection.run_keys = static_cast<int32_t>(total);
  block_sum_before<kThreads>(columns, ptx::shared_base(), total);
  selection.columns = total;
  if (ptx::thread() == 0) ptx::store(call.selections + ptx::block(), selection);
}

// One stable pass of a counting sort by a digit of call.missing: every thread counts, then moves, a
// stretch of `from` of its own. from null: 0, 1, 2, ...
MI_DEVICE void block_sort_by_digit(const IndexCall& call, const int32_t* from, int32_t* to,
                                   int64_t begin, int64_t end, uint32_t shift) {
  using Shape = IndexShape;
  const uint32_t shared = ptx::shared_base();
  const auto block_at = [&](int64_t i) {
    return from == nullptr ? static_cast<int32_t>(i) : ptx::load(from + i);
  };
  const auto counter = [&](int32_t block) {
    const auto missing = static_cast<uint32_t>(ptx::load(call.missing + block));
    return shared +
           ((missing >> shift) % Shape::kDigits * Shape::kOrderThreads + ptx::thread()) * 4;
  };
  for (uint32_t digit = 0; digit < Shape::kDigits; ++digit)
    ptx::store_shared(shared + (digit * Shape::kOrderThreads + ptx::thread()) * 4, 0);
  for (int64_t i = begin; i < end; ++i) {
    const uint32_t at = counter(block_at(i));
    ptx::store_shared(at, static_cast<uint32_t>(ptx::load_shared(at)) + 1);
  }
  ptx::barrier();
  // Counters in order of digit, then thread; each thread turns 16 of them into places.
  const uint32_t own = shared + ptx::thread() * Shape::kDigits * 4;
  int64_t sum = 0, total;
  for (uint32_t i = 0; i < Shape::kDigits; ++i) sum += ptx::load_shared(own + i * 4);
  sum = block_sum_before<Shape::kOrderThreads>(sum, shared + Shape::kOrderSums, total);
  for (uint32_t i = 0; i < Shape::kDigits; ++i) {
    const int32_t count = ptx::load_shared(own + i * 4);
    ptx::store_shared(own + i * 4, static_cast<uint32_t>(sum));
    sum += count;
  }
  ptx::barrier();
  for (int64_t i = begin; i < end; ++i) {
    const int32_t block = block_at(i);
    const uint32_t at = counter(block);
    const int32_t place = ptx::load_shared(at);
    ptx::store_shared(at, static_cast<uint32_t>(place) + 1);
    ptx::store(to + place, block);
  }
  ptx::barrier();
}

MI_DEVICE void block_order_items(const IndexCall& call) {
  using Shape = IndexShape;
  const uint32_t sums = ptx::shared_base() + Shape::kOrderSums;
  const int64_t blocks = call.size.blocks;
  const int64_t each = (blocks + Shape::kOrderThreads - 1) / Shape::kOrderThreads;
  const int64_t begin = ptx::thread() * each < blocks ? ptx::thread() * each : blocks;
  const int64_t end = begin + each < blocks ? begin + each : blocks;

  int64_t runs = 0, columns = 0, tiles = 0, no_room = 0;
  for (int64_t i = begin; i < end; ++i) {
    const Selection selection = ptx::load(call.selections + i);
    runs += selection.runs;
    columns += selection.columns;
  }
  IndexTotals totals;
  runs = block_sum_before<Shape::kOrderThreads>(runs, sums, totals.runs);
  columns = block_sum_before<Shape::kOrderThreads>(columns, sums, totals.columns);
  for (int64_t i = begin; i < end; ++i) {
    const RowBlock of = ptx::load(call.blocks + i);
    Selection selection = ptx::load(call.selections + i);
    selection.first_run = runs;
    selection.first_column = columns;
    runs += selection.runs;
    columns += selection.columns;
    ptx::store(call.selections + i, selection);
    const bool room = fits(call.size, selection);
    int64_t keys = of.keys_end;
    if (of.keys != nullptr && room) keys = int64_t{selection.run_keys} + selection.columns;
    const int64_t of_block = (keys + kKeyTile - 1) / kKeyTile;
    ptx::store(call.missing + i, static_cast<int32_t>(call.size.most_tiles - of_block));
    tiles += of_block;
    no_room += of.keys != nullptr && !room ? 1 : 0;
  }
  block_sum_before<Shape::kOrderThreads>(tiles, sums, totals.tiles);
  block_sum_before<Shape::kOrderThreads>(no_room, sums, totals.no_room);
  if (ptx::thread() == 0) ptx::store(call.totals, totals);
  ptx::barrier();

  const int32_t* from = nullptr;
  int32_t* to = call.order;
  for (uint32_t shift = 0; call.size.most_tiles >> shift != 0; shift += Shape::kDigitBits) {
    block_sort_by_digit(call, from, to, begin, end, shift);
    from = to;
    to = call.order + (to == call.order ? blocks : 0);
  }
  for (int64_t i = ptx::thread(); i < blocks; i += Shape::kOrderThreads) {
    const int32_t at = from == nullptr ? static_cast<int32_t>(i) : ptx::load(from + i);
    const RowBlock of = ptx::load(call.blocks + at);
    const bool sparse = of.keys != nullptr && fits(call.size, ptx::load(call.selections + at));
    ptx::store(call.items + i, WorkItem{of.sequence, of.head, of.block, sparse ? at : kEveryKey});
  }
}

MI_DEVICE void block_write_keys(const IndexCall& call) {
  const RowBlock of = ptx::load(call.blocks + ptx::block());
  const Selection selection = ptx::load(call.selections + ptx::block());
  if (of.keys == nullptr || !fits(call.size, selection)) return;
  KeyRun* runs = call.runs + selection.first_run;
  int32_t* columns = call.columns + selection.first_column;
  int32_t position = 0;
  // kThreads words at a time; what precedes a word among them, three counts of at most 8192 keys in
  // one sum.
  constexpr uint32_t kCountBits = 20;
  constexpr int64_t kCountMask = (int64_t{1} << kCountBits) - 1;
  for (int64_t first = 0; first * 64 < of.keys_end; first += kThreads) {
    const int64_t at = first + ptx::thread();
    KeyWord word = thread_split_word(of, at);
    int64_t total;
    const int64_t before =
        block_sum_before<kThreads>(int64_t{ptx::count_bits(word.run_starts)} |
                                       int64_t{ptx::count_bits(word.run_keys)} << kCountBits |
                                       int64_t{ptx::count_bits(word.columns)} << 2 * kCountBits,
                                   ptx::shared_base(), total);
    KeyRun* run = runs + (before & kCountMask);
    for (; word.run_starts != 0; word.run_starts &= word.run_starts - 1) {
      const int bit = ptx::lowest_bit(word.run_starts);
      const uint64_t below = (uint64_t{1} << bit) - 1;
      const auto ahead = static_cast<int32_t>(before >> kCountBits & kCountMask);
      ptx::store(run++, KeyRun{static_cast<int32_t>(at * 64 + bit),
                               position + ahead + ptx::count_bits(word.run_keys & below)});
    }
    int32_t* column = columns + (before >> 2 * kCountBits);
    for (; word.columns != 0; word.columns &= word.columns - 1)
      ptx::store(column++, static_cast<int32_t>(at * 64 + ptx::lowest_bit(word.columns)));
    runs += total & kCountMask;
    position += static_cast<int32_t>(total >> kCountBits & kCountMask);
    columns += total >> 2 * kCountBits;
  }
}

}  // namespace mi::kernels::cuda
