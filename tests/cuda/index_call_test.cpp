// What an index has room for, and indices that no machine's memory holds: on the emulator alone.
#include <catch2/catch.hpp>

#include "tests/cuda/index_layer.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("index: room is for the most runs and the most columns, and for no more") {
  for (int64_t keys : {1, 7, 8, 16, 17, 63, 64, 65, 71, 72, 1000}) {
    for (const int64_t period : {8, 9}) {  // columns, runs
      std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(keys)));
      for (int64_t j = 0; j < keys; ++j)
        if (j % period != period - 1) words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
      Bitmaps of;
      of.add(0, 0, 0, 1, keys, words);
      const IndexSize size = kernels::cuda::index_size(of.blocks);
      WorkList work;
      work.add(0, 0, 0, keys, words.data());
      CHECK((period == 8 ? size.columns - static_cast<int64_t>(work.columns().size())
                         : size.runs - static_cast<int64_t>(work.runs().size())) == 0);
    }
  }
}

TEST_CASE("index: runs and columns begin behind 2^32 others") {
  using kernels::cuda::IndexShape;
  uint64_t word = 1;
  const std::vector<RowBlock> blocks(5, {.keys_end = 2000000000, .keys = &word});
  const IndexSize size{.blocks = 5, .most_tiles = 31250000};
  Index index(blocks, size);
  // What the first launch would have written; there is room by the size alone, nothing is written.
  for (int i = 0; i < 5; ++i)
    index.call.selections[i] = {.runs = 1000000000, .run_keys = 1, .columns = 1700000000};
  index.call.size.runs = int64_t{1} << 40;
  index.call.size.columns = 4 * int64_t{1700000000};
  const IndexCall& call = index.call;
  GlobalMemory global;
  global.add(blocks);
  global.add(index.workspace, kernels::cuda::index_bytes(size), true);
  CHECK(launch(1, IndexShape::kOrderThreads, IndexShape::kOrderBytes, global, [&] {
          kernels::cuda::block_order_items(call);
        }).faults.text() == "");
  for (int64_t i = 0; i < 5; ++i) {
    CHECK(call.selections[i].first_run == i * 1000000000);
    CHECK(call.selections[i].first_column == i * 1700000000);
  }
  CHECK(call.totals->columns == int64_t{5} * 1700000000);
  CHECK(call.totals->no_room == 1);
  CHECK(call.items[0].selection == kernels::cuda::kEveryKey);  // 31250000 tiles: the longest
  CHECK(call.items[1].selection == 0);
}

TEST_CASE("index: a workspace that is too small is refused with the bytes it needs") {
  alignas(256) std::byte memory[512];
  const IndexSize size{.blocks = 1, .most_tiles = 1};
  const size_t bytes = kernels::cuda::index_bytes(size);
  const auto small = kernels::cuda::index_call(nullptr, size, memory, bytes - 1);
  REQUIRE(!small);
  CHECK(small.error().what.find(std::to_string(bytes)) != std::string::npos);
  CHECK(kernels::cuda::index_call(nullptr, size, memory, bytes));
  CHECK(!kernels::cuda::index_call(nullptr, size, memory + 8, bytes));
  CHECK(!kernels::cuda::index_call(nullptr, size, nullptr, bytes));
  CHECK(!kernels::cuda::index_call(nullptr, {.blocks = int64_t{1} << 31}, memory, bytes));
}

}  // namespace
}  // namespace mi::test::cuda
