// What selection on the device is about: from byte codes of estimates and forced keys to bitmaps,
// one a row block, of one sequence and some heads of a layer that share their caps. Plain structs,
// read by the device as they are.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/index_call.h"

namespace mi::kernels::cuda {

// Thresholds that share a cap rise together, by at most so many steps of an eighth of an octave:
// two codes each.
inline constexpr int kRaises = 16;
inline constexpr int kCodesOfRaise = 2;

// Where a head's keys come from.
enum class KeyRule : int32_t {
  every_key,
  window,  // a_shape: sinks and a window, known without an estimate
  codes,   // an estimate's, one a key (MassCodes)
};

// What a head attends whatever the prompt is, in keys or rows, none negative: its first `sink`
// keys, the `local` ones before a row block and the block's own; all keys from row blocks that
// reach into the `last` rows.
struct HeadRule {
  KeyRule rule = KeyRule::every_key;
  int32_t shares_cap = 0;  // 1: its threshold may rise with those of others
  // Tiles that this takes from the cap, what estimating once more costs on the CPU: a head that it
  // saves less keeps its threshold. Here it costs nothing, but so both select the same keys.
  double second_look = 0;
  int32_t sink = 0;
  int32_t local = 0;
  int32_t last = 0;
  float density = 0;         // > 0: the threshold of its codes
  int32_t spend_tiles = -1;  // >= 0: no threshold is given; the one that spends so many tiles
  int32_t joins = 0;  // 1: of two estimates the larger; vertical_slash joins codes that are there
  // Of a window after so many raises: keys at distances 0 .. reach - 1 from the block's first row
  // are attended, and as many before them as the last tile has room for.
  int32_t reach[kRaises + 1] = {};
};

// Bitmaps and codes of one head, row block by row block: as many words (64 codes each) as its keys
// take.
struct HeadWords {
  int64_t n_q = 0;
  int64_t n_kv = 0;

  [[nodiscard]] MI_BOTH int64_t row_blocks() const { return (n_q + kRowBlock - 1) / kRowBlock; }
  // Row block i before the last has 64 (i + 1) + n_kv - n_q keys.
  [[nodiscard]] MI_BOTH int64_t before(int64_t block) const {
    return block * (block + 1) / 2 + block * ((n_kv - n_q + 63) / 64);
  }
  [[nodiscard]] MI_BOTH int64_t count() const { return before(row_blocks()); }
};

// What a row block attends after so many raises.
struct Cut {
  int32_t tiles = 0;  // of 64 keys
  // Codes: keys with larger ones, and of those that have this one the first `more`. Window: `more`
  // keys before it.
  int32_t code = 0;
  int32_t more = 0;
};

// All pointers are to device memory.
struct SelectCall {
  const HeadRule* heads = nullptr;  // [num_heads]
  int32_t num_heads = 0;
  int32_t first_head = 0;          // of the layer's heads
  HeadWords shape;                 // of each head
  const uint8_t* codes = nullptr;  // [num_heads, 64 shape.count()], 16-byte aligned
  uint64_t* words = nullptr;       // [num_heads, shape.count()]
  RowBlock* blocks = nullptr;      // [num_heads, row_blocks()]
  Cut* cuts = nullptr;             // [num_heads, row_blocks(), kRaises + 1]
  // Of the heads that share a cap; if none does, neither `tiles` nor `raises` is written or read.
  double cap = 0;             // tiles that they may execute, and what *unspent holds
  double* unspent = nullptr;  // [1] handed from layer to layer
  int64_t* tiles = nullptr;   // [num_heads, kRaises + 1] of all row blocks
  int32_t* raises = nullptr;  // [num_heads]
};

// Codes of estimates whose threshold is to be found are bins, an eighth of an octave each, from
// 2^-25 to 2^7: a row block has 64 rows to give, and of two estimates' sum twice that.
inline constexpr int kBinShift = 20;
inline constexpr int kFirstBin = (127 - 25) * 8;
inline constexpr float kEveryDensity = 0;  // a threshold found: that of every key

// The thresholds of heads that spend tiles, as lambda_for_tiles of libruntime finds them. Two
// launches: tiles of each row block, thresholds.
struct SpendCall {
  SelectCall select;
  const int32_t* which = nullptr;  // [count] indices into select.heads
  int32_t count = 0;
  int32_t* tiles = nullptr;  // [count, row_blocks(), 256] executed from each code on
  float* found = nullptr;    // [select.num_heads]
};

// What a head executed.
struct HeadReport {
  int64_t tiles = 0;  // of 64 x 64 scores
  int64_t raise = 0;  // steps that its threshold rose
};
struct ReportCall {
  IndexCall index;  // of `select`'s blocks, built
  SelectCall select;
  HeadReport* heads = nullptr;  // [num_heads]
};

// A few words that a launch brings along as its argument and puts into device memory.
struct PutCall {
  static constexpr int kWords = 16;
  uint64_t words[kWords] = {};
  int32_t count = 0;
  uint64_t* to = nullptr;
};

}  // namespace mi::kernels::cuda
