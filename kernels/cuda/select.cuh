// Selection: byte codes of an estimate, forced keys and windows become bitmaps. Three launches:
//   cut    a block of threads a row block: what it would attend after each number of raises
//   raise  one block of threads: how often thresholds rise, so that their heads keep to their caps
//   select a block of threads a row block: its bitmap
//
// A tile is paid for whole, so a row block's last one is filled with its best keys below the
// threshold, equal codes by rising key. With codes kept, a raised threshold is another cut through
// the same codes: nothing is estimated twice.
//
// Goals: no atomics on global memory and none whose order shows, so the same bits every time; codes
// are read twice whatever happens. State: run by the emulator of tests/cuda only, never on
// hardware.
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

MI_DEVICE void block_count_tiles(const SpendCall& call) {
  const int64_t slot = ptx::block() / call.select.shape.row_blocks();
  block_count_codes(RowBlockOf(call.select, ptx::load(call.which + slot)));
  for (uint32_t code = ptx::thread(); code < SelectShape::kCodes; code += kThreads)
    ptx::store(call.tiles + ptx::block() * SelectShape::kCodes + code,
               tiles_of(keys_from(static_cast<int32_t>(code))));
}

// A block of threads a head, a thread a code.
MI_DEVICE void block_find_threshold(const SpendCall& call) {
  const uint32_t shared = ptx::shared_base();
  const int64_t row_blocks = call.select.shape.row_blocks();
  const int32_t* tiles = call.tiles + ptx::block() * row_blocks * SelectShape::kCodes;
  int32_t sum = 0;
  for (int64_t m = 0; m < row_blocks; ++m)
    sum += ptx::load(tiles + m * SelectShape::kCodes + ptx::thread());
  ptx::store_shared(shared + ptx::thread() * 4, static_cast<uint32_t>(sum));
  ptx::barrier();
  if (ptx::thread() != 0) return;
  const int64_t head = ptx::load(call.which + ptx::block());
  const auto spent = [&](int32_t lowest) {
    return ptx::load_shared(shared + static_cast<uint32_t>(lowest) * 4);
  };
  // What the forced keys cost, if that is more. Cost falls as the lowest code that is kept rises.
  int32_t affordable = ptx::load(&call.select.heads[head].spend_tiles);
  if (affordable < spent(255)) affordable = spent(255);
  int32_t low = 0, high = 255;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (spent(middle) <= affordable) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  ptx::store(call.found + head,
             low == 0 ? kEveryDensity
                      : ptx::float_of(static_cast<uint32_t>(low + kFirstBin) << kBinShift));
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
