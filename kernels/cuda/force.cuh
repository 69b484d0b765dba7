// Forced keys: sinks, local window, a block's own keys and the dense last rows set in the bitmaps
// that an estimate has written, or alone making up those of static heads. A block of threads a row
// block.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/force_call.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// The keys of a row block that are not forced: one range.
struct UnforcedKeys {
  int64_t begin;
  int64_t end;
};

MI_DEVICE UnforcedKeys unforced_keys(const ForcedKeys& rule, const RowBlock& of) {
  const int64_t keys = of.keys_end;
  if (of.rows_after < rule.last) return {keys, keys};
  const int64_t begin = rule.sink < keys ? rule.sink : keys;
  int64_t end = int64_t{of.first_key} - rule.local;
  if (end < begin) end = begin;
  if (rule.window > 0) {
    const int64_t window = int64_t{of.first_key} - rule.window + 1;
    if (window < end) end = window < begin ? begin : window;
    const int64_t forced = begin + keys - end;
    const int64_t room = (kKeyTile - forced % kKeyTile) % kKeyTile;
    end = end - room < begin ? begin : end - room;
  }
  return {begin, end};
}

// Bits of word `at` whose keys lie before `key`.
MI_DEVICE uint64_t bits_before(int64_t key, int64_t at) {
  const int64_t bits = key - at * 64;
  return bits <= 0 ? 0 : bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
}

MI_DEVICE void block_force_keys(const ForceCall& call) {
  const RowBlock of = ptx::load(call.blocks + ptx::block());
  if (of.keys == nullptr) return;
  const ForcedKeys rule = ptx::load(call.heads + int64_t{of.sequence} * call.num_heads + of.head);
  const UnforcedKeys unforced = unforced_keys(rule, of);
  for (int64_t at = ptx::thread(); at * 64 < of.keys_end; at += kThreads) {
    const uint64_t forced = bits_before(unforced.begin, at) |
                            (bits_before(of.keys_end, at) & ~bits_before(unforced.end, at));
    const uint64_t selected = rule.window > 0 ? 0 : ptx::load(of.keys + at);
    ptx::store(of.keys + at, selected | forced);
  }
}

}  // namespace mi::kernels::cuda
