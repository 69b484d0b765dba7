// The work of one launch, put together on the host from bitmaps of selected keys.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/index_call.h"

namespace mi::kernels::cuda {

class WorkList {
 public:
  // Row block `block` of a head over the keys of a bitmap of keys_end bits (as in Backend::attend),
  // or over all of them where `keys` is null. keys_end <= 2^31 - 1.
  void add(int sequence, int head, int64_t block, int64_t keys_end, const uint64_t* keys);
  // Most tiles of 64 keys first: blocks of threads start in the order of the list, and the last to
  // end should be short. Equal ones stay in the order in which they were added.
  void sort();

  // What AttendCall points to, to be copied to the device.
  [[nodiscard]] const std::vector<WorkItem>& items() const { return items_; }
  [[nodiscard]] const std::vector<Selection>& selections() const { return selections_; }
  [[nodiscard]] const std::vector<KeyRun>& runs() const { return runs_; }
  [[nodiscard]] const std::vector<int32_t>& columns() const { return columns_; }
  // Keys of items()[i].
  [[nodiscard]] int64_t keys(size_t i) const { return keys_[i]; }

 private:
  std::vector<WorkItem> items_;
  std::vector<int64_t> keys_;
  std::vector<Selection> selections_;
  std::vector<KeyRun> runs_;
  std::vector<int32_t> columns_;
};

}  // namespace mi::kernels::cuda
