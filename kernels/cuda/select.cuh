// Selection: byte codes of an estimate, forced keys and windows become bitmaps. Four launches:
//   cut    a block of threads a row block: what it would attend after each number of raises
//   add    a block of threads a head: tiles that it would execute
//   raise  one warp: how often thresholds rise, so that their heads keep to their caps
//   select a block of threads a row block: its bitmap
//
// With codes kept, a raised threshold is another cut through the same codes: nothing is estimated
// twice. Goals: no atomics on global memory and none whose order shows, so the same bits every
// time; codes are read twice whatever happens.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/cut.cuh"

namespace mi::kernels::cuda {

// A block of threads a head.
MI_DEVICE void block_add_tiles(const SelectCall& call) {
  const int64_t row_blocks = call.shape.row_blocks();
  const Cut* cuts = call.cuts + ptx::block() * row_blocks * (kRaises + 1);
  int64_t tiles[kRaises + 1] = {};
  for (int64_t m = ptx::thread(); m < row_blocks; m += kThreads) {
    MI_UNROLL
    for (int i = 0; i <= kRaises; ++i) tiles[i] += ptx::load(&cuts[m * (kRaises + 1) + i].tiles);
  }
  MI_UNROLL
  for (int i = 0; i <= kRaises; ++i) {
    block_sum_before<kThreads>(tiles[i], ptx::shared_base(), tiles[i]);
    if (ptx::thread() == 0) ptx::store(call.tiles + ptx::block() * (kRaises + 1) + i, tiles[i]);
  }
}

// What a head that shares a cap takes from it after so many raises of the others, 0 being none.
struct RaisedHead {
  double as_it_is;
  double raised;

  MI_DEVICE RaisedHead(const SelectCall& call, int64_t head, int32_t raise) {
    const int64_t* tiles = call.tiles + head * (kRaises + 1);
    as_it_is = static_cast<double>(ptx::load(tiles));
    raised =
        ptx::load(&call.heads[head].second_look) + static_cast<double>(ptx::load(tiles + raise));
    if (raise == 0) raised = as_it_is;
  }
  [[nodiscard]] MI_DEVICE double cost() const { return raised < as_it_is ? raised : as_it_is; }
};

// One warp: thread i of it looks at i raises.
MI_DEVICE void warp_raise_thresholds(const SelectCall& call) {
  const auto lane = static_cast<int32_t>(ptx::thread());
  const int32_t mine = lane < kRaises ? lane : kRaises;
  const double affordable = ptx::load(call.unspent) + call.cap;
  double cost = 0;
  for (int64_t head = 0; head < call.num_heads; ++head)
    if (ptx::load(&call.heads[head].shares_cap) != 0) cost += RaisedHead(call, head, mine).cost();
  int32_t raise = 0;
  while (raise < kRaises && !ptx::any(lane == raise && cost <= affordable)) ++raise;
  for (int64_t head = lane; head < call.num_heads; head += 32) {
    const RaisedHead of(call, head, raise);
    ptx::store(call.raises + head, of.raised < of.as_it_is ? raise : 0);
  }
  ptx::warp_barrier();
  if (lane == raise) ptx::store(call.unspent, affordable - cost);
}

MI_DEVICE int32_t raise_of(const SelectCall& call, int64_t head) {
  return ptx::load(&call.heads[head].shares_cap) == 0 ? 0 : ptx::load(call.raises + head);
}

MI_DEVICE void block_select_keys(const SelectCall& call) {
  const RowBlockOf of(call);
  if (of.block.keys == nullptr) return;
  const int32_t raise = raise_of(call, of.head);
  const Cut cut = ptx::load(of.cuts + raise);
  UnforcedKeys unforced(of.rule, of.block);
  const bool has_codes = ptx::load(&of.rule->rule) == KeyRule::codes;
  int64_t more = 0;
  if (has_codes) {
    more = cut.more;
  } else {
    unforced.end_before_window(of.block, ptx::load(of.rule->reach + raise));
    unforced.end -= cut.more;
  }
  // kThreads words at a time; ties go to the first keys.
  for (int64_t first = 0; first * 64 < of.block.keys_end; first += kThreads) {
    const int64_t at = first + ptx::thread();
    const uint64_t open = bits_before(unforced.end, at) & ~bits_before(unforced.begin, at);
    uint64_t selected = bits_before(of.block.keys_end, at) & ~open;
    uint64_t tied = 0;
    if (has_codes && open != 0) {
      uint64_t above = 0;
      MI_UNROLL
      for (int part = 0; part < 4; ++part) {
        const auto bytes =
            ptx::load(reinterpret_cast<const ptx::Bytes16*>(of.codes + at * 64 + part * 16));
        MI_UNROLL
        for (int x = 0; x < 16; ++x) {
          const auto code = static_cast<int32_t>(bytes.word[x / 4] >> (8 * (x % 4)) & 0xff);
          above |= uint64_t{code > cut.code} << (part * 16 + x);
          tied |= uint64_t{code == cut.code} << (part * 16 + x);
        }
      }
      selected |= above & open;
      tied &= open;
    }
    if (more > 0) {
      int64_t total;
      int64_t left =
          more - block_sum_before<kThreads>(ptx::count_bits(tied), ptx::shared_base(), total);
      for (; tied != 0 && left > 0; tied &= tied - 1, --left) selected |= tied & (~tied + 1);
      more -= total;
    }
    if (at * 64 < of.block.keys_end) ptx::store(of.block.keys + at, selected);
  }
}

// A block of threads a head.
MI_DEVICE void block_report_head(const ReportCall& call) {
  const int64_t row_blocks = call.select.shape.row_blocks();
  const int32_t* missing = call.index.missing + ptx::block() * row_blocks;
  int64_t tiles = 0;
  for (int64_t m = ptx::thread(); m < row_blocks; m += kThreads)
    tiles += call.index.size.most_tiles - ptx::load(missing + m);
  block_sum_before<kThreads>(tiles, ptx::shared_base(), tiles);
  if (ptx::thread() == 0)
    ptx::store(call.heads + ptx::block(), HeadReport{tiles, raise_of(call.select, ptx::block())});
}

// One warp.
MI_DEVICE void warp_put_words(const PutCall& call) {
  const auto i = static_cast<int32_t>(ptx::thread());
  if (i < call.count) ptx::store(call.to + i, call.words[i]);
}

}  // namespace mi::kernels::cuda
