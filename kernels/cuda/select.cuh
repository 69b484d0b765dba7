// Selection: byte codes of an estimate, forced keys and windows become bitmaps. Three launches:
//   cut    a block of threads a row block: what it would attend after each number of raises
//   raise  one block of threads: how often thresholds rise, so that their heads keep to their caps
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

MI_DEVICE void block_raise_thresholds(const SelectCall& call) {
  constexpr uint32_t kBlock = SelectShape::kRaiseThreads;
  const int64_t row_blocks = call.shape.row_blocks();
  int64_t tiles[kRaises + 1] = {};
  for (int64_t head = 0; head < call.num_heads; ++head) {
    if (ptx::load(&call.heads[head].shares_cap) == 0) continue;
    for (int64_t m = ptx::thread(); m < row_blocks; m += kBlock) {
      const Cut* cuts = call.cuts + (head * row_blocks + m) * (kRaises + 1);
      MI_UNROLL
      for (int i = 0; i <= kRaises; ++i) tiles[i] += ptx::load(&cuts[i].tiles);
    }
  }
  MI_UNROLL
  for (int i = 0; i <= kRaises; ++i)
    block_sum_before<kBlock>(tiles[i], ptx::shared_base(), tiles[i]);
  if (ptx::thread() != 0) return;
  double affordable = ptx::load(call.unspent) + call.cap;
  int32_t raise = 0;
  auto spent = static_cast<double>(tiles[0]);
  if (spent > affordable) {
    affordable -= call.second_look;
    MI_UNROLL
    for (int i = 1; i <= kRaises; ++i)
      if (i == 1 || spent > affordable) {
        raise = i;
        spent = static_cast<double>(tiles[i]);
      }
  }
  ptx::store(call.unspent, affordable - spent);
  ptx::store(call.raise, raise);
}

MI_DEVICE int32_t raise_of(const SelectCall& call, const HeadRule* rule) {
  return ptx::load(&rule->shares_cap) == 0 ? 0 : ptx::load(call.raise);
}

MI_DEVICE void block_select_keys(const SelectCall& call) {
  const RowBlockOf of(call);
  if (of.block.keys == nullptr) return;
  const int32_t raise = raise_of(call, of.rule);
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
    ptx::store(call.heads + ptx::block(),
               HeadReport{tiles, raise_of(call.select, call.select.heads + ptx::block())});
}

// One warp.
MI_DEVICE void warp_put_words(const PutCall& call) {
  const auto i = static_cast<int32_t>(ptx::thread());
  if (i < call.count) ptx::store(call.to + i, call.words[i]);
}

}  // namespace mi::kernels::cuda
