// The index build on the emulated device: the same as on the host for any bitmaps, and within its
// workspace.
#include <catch2/catch.hpp>

#include "tests/cuda/index_layer.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("index: that of the host, for any shape and bitmap") {
  for (uint64_t seed = 0; seed < 7; ++seed) {
    INFO("seed " << seed);
    CHECK(check_index(bitmaps({{1, 1}}, 1, seed)) == "");
    CHECK(check_index(bitmaps({{63, 63}, {64, 64}, {65, 65}}, 2, seed)) == "");
    CHECK(check_index(bitmaps({{1, 200}, {130, 257}, {1, 1}, {64, 64}, {65, 190}}, 3, seed)) == "");
    // More words than threads.
    CHECK(check_index(bitmaps({{70, 64 * 300 + 5}}, 1, seed)) == "");
  }
}

TEST_CASE("index: more row blocks than threads that order them") {
  CHECK(check_index(bitmaps({{64 * 200, 64 * 200}, {64 * 90 + 1, 64 * 91}, {30, 30}}, 3, 8)) == "");
}

TEST_CASE("index: no row block at all") {
  CHECK(check_index(Bitmaps{}) == "");
}

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

TEST_CASE("index: a row block without room is dense, and counted") {
  const Bitmaps of = bitmaps({{200, 300}}, 3, 3);
  const IndexSize worst = kernels::cuda::index_size(of.blocks);
  for (const int64_t part : {0, 1, 2, 3}) {
    IndexSize size = worst;
    size.columns = worst.columns * part / 4;
    CHECK(check_index(of, size) == "");
    size.runs = worst.runs * part / 8;
    CHECK(check_index(of, size) == "");
    size.columns = worst.columns;
    CHECK(check_index(of, size) == "");
  }
  IndexSize size = worst;
  size.columns = 0;
  const Index index(of.blocks, size);
  CHECK(build(of, index) == "");
  CHECK(index.call.totals->no_room > 0);
  CHECK(index.call.totals->columns > 0);
}

TEST_CASE("index: runs and columns begin behind 2^32 others") {
  using kernels::cuda::IndexShape;
  uint64_t word = 1;
  const std::vector<RowBlock> blocks(5, {.keys_end = 2000000000, .keys = &word});
  Index index(blocks, {.blocks = 5, .most_tiles = 31250000});
  // What the first launch would have written; there is room by the size alone, nothing is written.
  for (int i = 0; i < 5; ++i)
    index.call.selections[i] = {.runs = 1000000000, .run_keys = 1, .columns = 1700000000};
  index.call.size.runs = int64_t{1} << 40;
  index.call.size.columns = 4 * int64_t{1700000000};
  GlobalMemory global;
  global.add(blocks);
  const IndexCall call = index.call;
  index.call.size.runs = index.call.size.columns = 0;
  index.add_to(global);
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
