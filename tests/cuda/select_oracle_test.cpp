// The host's selection, which the kernels' is held to, by hand.
#include <catch2/catch.hpp>

#include <array>

#include "tests/cuda/select_layer.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("selection by hand: six keys above the threshold, the tile filled by rank and place") {
  // One row block over 192 keys, its own 64 forced: two tiles, so 58 more below the threshold.
  std::array<uint8_t, 192> code = {};
  for (size_t j = 0; j < 128; ++j) code[j] = j < 70 ? 100 : 90;
  for (const size_t j : {5, 20, 64, 99, 100, 127}) code[j] = 192;
  for (const size_t j : {0, 126}) code[j] = 191;
  kernels::AttentionHead head;
  head.n_q = 64;
  head.n_kv = 192;
  int64_t tiles = 0;
  const Bits bits = host_selection({.rule = KeyRule::codes}, head, 0, code.data(), 0, &tiles);
  CHECK(tiles == 2);
  // 8 of codes 191 and more, then the first 56 of code 100: keys 1 to 58 but 5 and 20.
  CHECK(bits[0] == (uint64_t{1} << 59) - 1);
  CHECK(bits[1] == (uint64_t{1} | uint64_t{1} << 35 | uint64_t{1} << 36 | uint64_t{3} << 62));
  CHECK(bits[2] == ~uint64_t{0});
}

}  // namespace
}  // namespace mi::test::cuda
