// Which key a slot of a key tile holds: the one thing in which dense and sparse attention differ.
// Each source has
//   count            keys of the row block
//   prepare(tile)    called by all threads, a barrier before the first key() of that tile
//   key(tile, slot)  the key, or kNoKey past the last one
#pragma once

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

// Larger than every row's last visible key, so that the causal mask hides empty slots, too.
inline constexpr int32_t kNoKey = INT32_MAX;

template <class Shape>
struct EveryKey {
  int32_t count;  // the row block's keys_end

  MI_DEVICE void prepare(int /*tile*/) {}
  [[nodiscard]] MI_DEVICE int32_t key(int tile, int slot) const {
    const int64_t position = int64_t{tile} * Shape::kKeys + slot;
    return position < count ? static_cast<int32_t>(position) : kNoKey;
  }
};

// Slots are filled across the ends of runs, then with columns, so a row block executes
// ceil(count / kKeys) tiles wherever its keys lie (what the cost function counts).
template <class Shape>
struct SelectedKeys {
  int32_t count;
  Selection selection;
  const KeyRun* runs;
  const int32_t* columns;
  uint32_t indices;  // shared memory, [kIndexStages, kKeys]
  int32_t run = 0;   // of this thread's slot: positions ascend from tile to tile
  int32_t ahead;     // its key in the tile to be prepared next: memory has a tile's time to answer

  MI_DEVICE SelectedKeys(const Selection& of, const KeyRun* all_runs, const int32_t* all_columns)
      : count(of.run_keys + static_cast<int32_t>(of.columns)),
        selection(of),
        runs(all_runs + of.first_run),
        columns(all_columns + of.first_column),
        indices(ptx::shared_base() + Shape::kIndices),
        ahead(has_slot() ? find(0) : kNoKey) {}

  [[nodiscard]] MI_DEVICE uint32_t address(int tile, int slot) const {
    return indices + static_cast<uint32_t>(tile % Shape::kIndexStages) * Shape::kIndexBytes +
           static_cast<uint32_t>(slot) * 4;
  }
  [[nodiscard]] MI_DEVICE static bool has_slot() {
    return ptx::thread() < static_cast<uint32_t>(Shape::kKeys);
  }
  // Called for each tile in turn, by threads that have a slot.
  [[nodiscard]] MI_DEVICE int32_t find(int tile) {
    const int64_t position = int64_t{tile} * Shape::kKeys + ptx::thread();
    if (position < selection.run_keys) {
      while (run + 1 < selection.runs && ptx::load(runs + run + 1).position <= position) ++run;
      const KeyRun of = ptx::load(runs + run);
      return of.key + static_cast<int32_t>(position - of.position);
    }
    return position < count ? ptx::load(columns + (position - selection.run_keys)) : kNoKey;
  }
  // Called for each tile in turn.
  MI_DEVICE void prepare(int tile) {
    if (!has_slot()) return;
    ptx::store_shared(address(tile, ptx::thread()), static_cast<uint32_t>(ahead));
    ahead = find(tile + 1);
  }
  [[nodiscard]] MI_DEVICE int32_t key(int tile, int slot) const {
    return ptx::load_shared(address(tile, slot));
  }
};

}  // namespace mi::kernels::cuda
