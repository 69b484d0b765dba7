// The index build: the same as on the host for any bitmaps, and within its workspace.
#include <catch2/catch.hpp>

#include "tests/cuda/index_layer.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("index: that of the host, for any shape and bitmap") {
  MI_NEEDS_MACHINE();
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
  MI_NEEDS_MACHINE();
  CHECK(check_index(bitmaps({{64 * 200, 64 * 200}, {64 * 90 + 1, 64 * 91}, {30, 30}}, 3, 8)) == "");
}

TEST_CASE("index: no row block at all") {
  MI_NEEDS_MACHINE();
  CHECK(check_index(Bitmaps{}) == "");
}

TEST_CASE("index: a row block without room is dense, and counted") {
  MI_NEEDS_MACHINE();
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

}  // namespace
}  // namespace mi::test::cuda
