// What the index build on the device is about: from bitmaps of selected keys, one a row block, to
// what AttendCall points to. Plain structs, read by the device as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attend_call.h"
#include "kernels/status.h"

namespace mi::kernels::cuda {

// Stretches of at least so many keys become runs, shorter ones columns. A run is 8 bytes and one
// step of a cursor, a column 4 bytes; at 8 a tile of 64 keys crosses at most 8 runs.
inline constexpr int kShortestRun = 8;

// 64 query rows of one head, the last block of a sequence fewer, and the keys that they attend.
struct RowBlock {
  int32_t sequence = 0;
  int32_t head = 0;
  int32_t block = 0;
  int32_t first_key = 0;   // position of the first row: the block's own keys begin here
  int32_t keys_end = 0;    // the last row sees keys [0, keys_end)
  int32_t rows_after = 0;  // rows of the sequence behind the block
  // [bitmap_words(keys_end)], 8-byte aligned; null: every key. Bits from keys_end on are not read.
  uint64_t* keys = nullptr;
};

// Row block `block` of a head over a bitmap. 1 <= n_q <= n_kv < 2^31.
[[nodiscard]] MI_BOTH inline RowBlock row_block(int sequence, int head, int64_t block, int64_t n_q,
                                                int64_t n_kv, uint64_t* keys) {
  const int64_t first_row = block * kRowBlock;
  const int64_t rows_end = first_row + kRowBlock < n_q ? first_row + kRowBlock : n_q;
  return {sequence,
          head,
          static_cast<int32_t>(block),
          static_cast<int32_t>(first_row + n_kv - n_q),
          static_cast<int32_t>(rows_end + n_kv - n_q),
          static_cast<int32_t>(n_q - rows_end),
          keys};
}

// What an index has room for.
struct IndexSize {
  int64_t blocks = 0;  // at most 2^31 - 1
  int64_t runs = 0;
  int64_t columns = 0;
  int32_t most_tiles = 0;  // of 64 keys, of any row block
};

// Room for whatever the bitmaps of these row blocks may hold: 3.5 bytes a key of each, so a caller
// with long prompts gives `runs` and `columns` less and row blocks that have no room are dense.
[[nodiscard]] IndexSize index_size(std::span<const RowBlock> blocks);
[[nodiscard]] size_t index_bytes(const IndexSize& size);

// What the build found, for the caller to read when it likes.
struct IndexTotals {
  int64_t runs = 0;     // that all row blocks need, those without room included
  int64_t columns = 0;  // the same
  int64_t tiles = 0;    // of 64 keys, that attention will execute
  int64_t no_room = 0;  // row blocks with a bitmap that run over every key, for want of room
};

// All pointers are to device memory; everything but `blocks` is the workspace's.
struct IndexCall {
  const RowBlock* blocks = nullptr;  // [size.blocks]
  IndexSize size;
  WorkItem* items = nullptr;        // [size.blocks], most tiles first, equal ones in order
  Selection* selections = nullptr;  // [size.blocks], of blocks[i] at i
  KeyRun* runs = nullptr;           // [size.runs]
  int32_t* columns = nullptr;       // [size.columns]
  IndexTotals* totals = nullptr;    // [1]
  int32_t* missing = nullptr;       // [size.blocks], tiles that a block has less than most_tiles
  int32_t* order = nullptr;         // [2, size.blocks], sorting
};

// The call over a workspace of index_bytes(size), 256-byte aligned; neither is read here. Errors:
// invalid_argument, with the bytes that are needed.
Result<IndexCall> index_call(const RowBlock* blocks, const IndexSize& size, void* workspace,
                             size_t workspace_bytes);

}  // namespace mi::kernels::cuda
