// What a row block attends: forced keys and windows, and of codes how many keys have each, from
// which the cut through them follows for every threshold. A block of threads a row block.
//
// A tile is paid for whole, so a row block's last one is filled with its best keys below the
// threshold, equal codes by rising key.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/select_call.h"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// The keys of a row block that are not forced: one range.
struct UnforcedKeys {
  int64_t begin;
  int64_t end;

  MI_DEVICE UnforcedKeys(const HeadRule* rule, const RowBlock& of) {
    const int64_t keys = of.keys_end;
    const int64_t sink = ptx::load(&rule->sink);
    begin = end = keys;
    if (of.rows_after < ptx::load(&rule->last)) return;
    begin = sink < keys ? sink : keys;
    end = int64_t{of.first_key} - ptx::load(&rule->local);
    if (end < begin) end = begin;
  }
  // What is left before a window.
  MI_DEVICE void end_before_window(const RowBlock& of, int32_t reach) {
    const int64_t window = int64_t{of.first_key} - reach + 1;
    if (window < end) end = window < begin ? begin : window;
  }
};

// Bits of word `at` whose keys lie before `key`.
MI_DEVICE uint64_t bits_before(int64_t key, int64_t at) {
  const int64_t bits = key - at * 64;
  return bits <= 0 ? 0 : bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
}

// Calls use(code) for this thread's share of the keys in `range`.
template <class Use>
MI_DEVICE void thread_for_codes(const uint8_t* codes, const UnforcedKeys& range, const Use& use) {
  for (int64_t at = range.begin / 16 + ptx::thread(); at * 16 < range.end; at += kThreads) {
    const auto bytes = ptx::load(reinterpret_cast<const ptx::Bytes16*>(codes + at * 16));
    MI_UNROLL
    for (int x = 0; x < 16; ++x) {
      const int64_t key = at * 16 + x;
      if (key >= range.begin && key < range.end) use(bytes.word[x / 4] >> (8 * (x % 4)) & 0xff);
    }
  }
}

// Row block number ptx::block() of a call.
struct RowBlockOf {
  int64_t head;
  const HeadRule* rule;
  const uint8_t* codes;
  Cut* cuts;
  RowBlock block;

  MI_DEVICE explicit RowBlockOf(const SelectCall& call)
      : RowBlockOf(call, ptx::block() / call.shape.row_blocks()) {}
  // The head's row block ptx::block() % row_blocks.
  MI_DEVICE RowBlockOf(const SelectCall& call, int64_t of_head) : head(of_head) {
    rule = call.heads + head;
    const int64_t m = ptx::block() % call.shape.row_blocks();
    const int64_t word = head * call.shape.count() + call.shape.before(m);
    codes = call.codes + word * 64;
    cuts = call.cuts + (head * call.shape.row_blocks() + m) * (kRaises + 1);
    const bool every_key = ptx::load(&rule->rule) == KeyRule::every_key;
    block = row_block(0, static_cast<int>(call.first_head + head), m, call.shape.n_q,
                      call.shape.n_kv, every_key ? nullptr : call.words + word);
  }
};

MI_DEVICE int32_t tiles_of(int64_t keys) {
  return static_cast<int32_t>((keys + kKeyTile - 1) / kKeyTile);
}

// Keys of a row block with at least a code, once they are counted.
MI_DEVICE int32_t keys_from(int32_t code) {
  return ptx::load_shared(ptx::shared_base() + static_cast<uint32_t>(code) * 4);
}

// Shared memory: how many unforced keys have each code, then how many at least each code.
MI_DEVICE void block_count_codes(const RowBlockOf& of) {
  using Shape = SelectShape;
  const uint32_t counts = ptx::shared_base();
  const uint32_t warp_counts = counts + ptx::thread() / 32 * Shape::kCodes * 4;
  const UnforcedKeys unforced(of.rule, of.block);
  for (uint32_t i = ptx::thread(); i < kWarps * Shape::kCodes; i += kThreads)
    ptx::store_shared(counts + i * 4, 0);
  ptx::barrier();
  // Most keys are far below the threshold, and counters that all threads want are slow.
  thread_for_codes(of.codes, unforced, [&](uint32_t code) {
    if (code != 0) ptx::add_shared(warp_counts + code * 4, 1);
  });
  ptx::barrier();
  constexpr uint32_t kEach = Shape::kCodes / kThreads;
  int64_t count[kEach] = {};
  int64_t sum = 0, total;
  for (uint32_t i = 0; i < kEach; ++i) {
    for (uint32_t warp = 0; warp < kWarps; ++warp)
      count[i] += ptx::load_shared(counts + (warp * Shape::kCodes + ptx::thread() * kEach + i) * 4);
    sum += count[i];
  }
  const int64_t keys = of.block.keys_end;
  int64_t before = block_sum_before<kThreads>(sum, counts + Shape::kSums, total);
  const int64_t forced = keys - (unforced.end - unforced.begin);
  for (uint32_t i = 0; i < kEach; ++i) {
    const uint32_t code = ptx::thread() * kEach + i;
    const int64_t at_least = code == 0 ? keys : forced + total - before;
    ptx::store_shared(counts + code * 4, static_cast<uint32_t>(at_least));
    before += count[i];
  }
  ptx::barrier();
}

MI_DEVICE void block_cut_codes(const RowBlockOf& of) {
  block_count_codes(of);
  if (ptx::thread() > kRaises) return;
  const int64_t keys = of.block.keys_end;
  const auto raises = static_cast<int32_t>(ptx::thread());
  int32_t above = kCodeAtThreshold + kCodesOfRaise * raises;
  Cut cut{tiles_of(keys_from(above)), above - 1, 0};
  const int64_t room = int64_t{cut.tiles} * kKeyTile;
  const auto wanted = static_cast<int32_t>(room < keys ? room : keys);
  if (keys_from(above) < wanted) {
    int32_t enough = 0;
    while (above - enough > 1) {
      const int32_t middle = (above + enough) / 2;
      (keys_from(middle) >= wanted ? enough : above) = middle;
    }
    cut.code = enough;
    cut.more = wanted - keys_from(above);
  }
  ptx::store(of.cuts + raises, cut);
}

MI_DEVICE void block_find_cuts(const SelectCall& call) {
  const RowBlockOf of(call);
  if (ptx::thread() == 0) ptx::store(call.blocks + ptx::block(), of.block);
  const KeyRule rule = ptx::load(&of.rule->rule);
  if (rule == KeyRule::codes) {
    block_cut_codes(of);
  } else if (ptx::thread() <= kRaises) {
    const int64_t keys = of.block.keys_end;
    Cut cut{tiles_of(keys), 0, 0};
    if (rule == KeyRule::window) {
      UnforcedKeys unforced(of.rule, of.block);
      unforced.end_before_window(of.block, ptx::load(of.rule->reach + ptx::thread()));
      const int64_t left = unforced.end - unforced.begin;
      cut.tiles = tiles_of(keys - left);
      const int64_t room = int64_t{cut.tiles} * kKeyTile - (keys - left);
      cut.more = static_cast<int32_t>(room < left ? room : left);
    }
    ptx::store(of.cuts + ptx::thread(), cut);
  }
}

}  // namespace mi::kernels::cuda
