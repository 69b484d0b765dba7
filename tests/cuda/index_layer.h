// The index build on a device or the emulator of one against WorkList.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/work_list.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
using kernels::cuda::IndexCall;
using kernels::cuda::IndexSize;
using kernels::cuda::RowBlock;
using kernels::cuda::WorkList;

// Row blocks of a layer and the memory of their bitmaps.
struct Bitmaps {
  std::vector<std::vector<uint64_t>> words;
  std::vector<RowBlock> blocks;

  void add(int sequence, int head, int64_t block, int64_t n_q, int64_t n_kv,
           std::vector<uint64_t> keys) {
    words.push_back(std::move(keys));
    blocks.push_back(kernels::cuda::row_block(
        sequence, head, block, n_q, n_kv, words.back().empty() ? nullptr : words.back().data()));
  }
};

// Bitmap number `kind` of a cycle: none (every key), nothing, everything, the most runs, the most
// columns, single keys, stretches of any length. What lies past the last key is set.
inline std::vector<uint64_t> bitmap(int kind, int64_t keys, std::mt19937_64& engine) {
  constexpr int kKinds = 7;
  if (kind % kKinds == 0) return {};
  std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(keys)));
  bool on = false;
  for (int64_t j = 0; j < 64 * static_cast<int64_t>(words.size()); ++j) {
    if (kind % kKinds == 2) on = true;
    if (kind % kKinds == 3) on = j % 9 != 8;
    if (kind % kKinds == 4) on = j % 8 != 7;
    if (kind % kKinds == 5) on = engine() % 8 == 0;
    if (kind % kKinds == 6 && engine() % 10 == 0) on = !on;
    if (on || j >= keys) words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
  }
  return words;
}

inline Bitmaps bitmaps(const std::vector<std::pair<int64_t, int64_t>>& sequences, int heads,
                       uint64_t seed) {
  Bitmaps made;
  std::mt19937_64 engine(seed);
  auto kind = static_cast<int>(seed % 7);
  for (size_t s = 0; s < sequences.size(); ++s)
    for (int h = 0; h < heads; ++h)
      for (int64_t m = 0; m * 64 < sequences[s].first; ++m) {
        const auto [n_q, n_kv] = sequences[s];
        const int64_t end = std::min((m + 1) * 64, n_q) + n_kv - n_q;
        made.add(static_cast<int>(s), h, m, n_q, n_kv, bitmap(kind++, end, engine));
      }
  return made;
}

// The host's copy of an index.
struct Index {
  std::vector<std::byte> memory;
  std::byte* workspace;
  IndexCall call;

  Index(const std::vector<RowBlock>& blocks, const IndexSize& size)
      : memory(kernels::cuda::index_bytes(size) + 256, std::byte{0xff}),
        workspace(memory.data() + (256 - reinterpret_cast<uintptr_t>(memory.data()) % 256)),
        call(*kernels::cuda::index_call(blocks.data(), size, workspace,
                                        kernels::cuda::index_bytes(size))) {}

  // The call as the machine sees it, over `blocks`. Each array is a part of its own, so that what
  // passes its end is a fault.
  [[nodiscard]] IndexCall share(Memory& machine, const RowBlock* blocks) const {
    std::vector<Part> parts;
    const auto add = [&](const auto* array, int64_t count) {
      parts.push_back({static_cast<size_t>(reinterpret_cast<const std::byte*>(array) - workspace),
                       static_cast<size_t>(count) * sizeof(*array), true});
    };
    add(call.items, call.size.blocks);
    add(call.selections, call.size.blocks);
    add(call.runs, call.size.runs);
    add(call.columns, call.size.columns);
    add(call.totals, 1);
    add(call.missing, call.size.blocks);
    add(call.order, 2 * call.size.blocks);
    const size_t bytes = kernels::cuda::index_bytes(call.size);
    return kernels::cuda::index_call(blocks, call.size, machine.share(workspace, bytes, parts),
                                     bytes)
        .value();
  }
};

// Builds the index; what the machine found wrong.
inline std::string build(const Bitmaps& of, const Index& index) {
  const auto launch = make_launch<bf16, 64, IndexCall>();  // the same for every one
  std::vector<RowBlock> blocks = of.blocks;
  for (size_t i = 0; i < blocks.size(); ++i)
    if (blocks[i].keys != nullptr)
      blocks[i].keys = const_cast<uint64_t*>(launch->input(of.words[i]));  // NOLINT: only read
  return launch->run(index.share(*launch, launch->input(blocks))).wrong;
}

// Empty if the index is that of WorkList, row blocks without room over every key.
inline std::string check_index(const Bitmaps& of, const IndexSize& size) {
  const Index index(of.blocks, size);
  std::string wrong = build(of, index);
  if (!wrong.empty()) return wrong;
  const auto expect = [&](const char* what, int64_t got, int64_t want) {
    if (got != want)
      wrong += std::string(what) + ": got " + std::to_string(got) + ", expected " +
               std::to_string(want) + "\n";
  };
  WorkList all;
  kernels::cuda::IndexTotals totals;
  for (size_t i = 0; i < of.blocks.size(); ++i) {
    const RowBlock& block = of.blocks[i];
    WorkList one;
    one.add(block.sequence, block.head, block.block, block.keys_end, block.keys);
    const kernels::cuda::Selection& got = index.call.selections[i];
    expect("first run", got.first_run, totals.runs);
    expect("first column", got.first_column, totals.columns);
    totals.runs += static_cast<int64_t>(one.runs().size());
    totals.columns += static_cast<int64_t>(one.columns().size());
    const bool room = totals.runs <= size.runs && totals.columns <= size.columns;
    all.add(block.sequence, block.head, block.block, block.keys_end, room ? block.keys : nullptr);
    totals.tiles += (all.keys(i) + 63) / 64;
    totals.no_room += block.keys != nullptr && !room ? 1 : 0;
    if (block.keys == nullptr) continue;
    expect("runs", got.runs, static_cast<int64_t>(one.runs().size()));
    expect("keys of runs", got.run_keys, one.selections()[0].run_keys);
    expect("columns", got.columns, static_cast<int64_t>(one.columns().size()));
    if (!room || !wrong.empty()) continue;
    const bool equal =
        std::equal(one.runs().begin(), one.runs().end(), index.call.runs + got.first_run,
                   [](const auto& a, const auto& b) {
                     return a.key == b.key && a.position == b.position;
                   }) &&
        std::equal(one.columns().begin(), one.columns().end(),
                   index.call.columns + got.first_column);
    if (!equal) wrong += "row block " + std::to_string(i) + ": other keys\n";
  }
  all.sort();
  for (size_t i = 0; i < of.blocks.size(); ++i) {
    const kernels::cuda::WorkItem& got = index.call.items[i];
    const kernels::cuda::WorkItem& want = all.items()[i];
    expect("sequence", got.sequence, want.sequence);
    expect("head", got.head, want.head);
    expect("block", got.block, want.block);
    expect("every key", got.selection == kernels::cuda::kEveryKey ? 1 : 0,
           want.selection == kernels::cuda::kEveryKey ? 1 : 0);
    if (got.selection == kernels::cuda::kEveryKey || !wrong.empty()) continue;
    const RowBlock& selected = of.blocks[static_cast<size_t>(got.selection)];
    expect("selection of sequence", selected.sequence, want.sequence);
    expect("selection of head", selected.head, want.head);
    expect("selection of block", selected.block, want.block);
  }
  expect("total of runs", index.call.totals->runs, totals.runs);
  expect("total of columns", index.call.totals->columns, totals.columns);
  expect("total of tiles", index.call.totals->tiles, totals.tiles);
  expect("without room", index.call.totals->no_room, totals.no_room);
  return wrong;
}
inline std::string check_index(const Bitmaps& of) {
  return check_index(of, kernels::cuda::index_size(of.blocks));
}

}  // namespace mi::test::cuda
