#include "kernels/cuda/work_list.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace mi::kernels::cuda {
namespace {

// The first position >= from whose bit is `set`, or end.
int64_t next_bit(const uint64_t* words, int64_t from, int64_t end, bool set) {
  while (from < end) {
    const uint64_t word = (set ? words[from / 64] : ~words[from / 64]) >> (from % 64);
    if (word != 0) return std::min(end, from + std::countr_zero(word));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

}  // namespace

void WorkList::add(int sequence, int head, int64_t block, int64_t keys_end, const uint64_t* keys) {
  WorkItem item{sequence, head, static_cast<int32_t>(block), kEveryKey};
  int64_t count = keys_end;
  if (keys != nullptr) {
    Selection selection{.first_run = static_cast<int64_t>(runs_.size()),
                        .first_column = static_cast<int64_t>(columns_.size())};
    for (int64_t begin = next_bit(keys, 0, keys_end, true); begin < keys_end;) {
      const int64_t end = next_bit(keys, begin, keys_end, false);
      if (end - begin >= kShortestRun) {
        runs_.push_back({static_cast<int32_t>(begin), selection.run_keys});
        ++selection.runs;
        selection.run_keys += static_cast<int32_t>(end - begin);
      } else {
        for (int64_t key = begin; key < end; ++key) columns_.push_back(static_cast<int32_t>(key));
        selection.columns += end - begin;
      }
      begin = next_bit(keys, end, keys_end, true);
    }
    item.selection = static_cast<int32_t>(selections_.size());
    count = int64_t{selection.run_keys} + selection.columns;
    selections_.push_back(selection);
  }
  items_.push_back(item);
  keys_.push_back(count);
}

void WorkList::sort() {
  std::vector<size_t> order(items_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto tiles = [&](size_t i) { return (keys_[i] + kKeyTile - 1) / kKeyTile; };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return tiles(a) > tiles(b); });
  std::vector<WorkItem> items;
  std::vector<int64_t> keys;
  for (const size_t i : order) {
    items.push_back(items_[i]);
    keys.push_back(keys_[i]);
  }
  items_ = std::move(items);
  keys_ = std::move(keys);
}

}  // namespace mi::kernels::cuda
