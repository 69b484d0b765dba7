// What a decoder does to rows between its matrix products.
#include <catch2/catch.hpp>

#include "tests/cuda/decoder_rows.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("decoder: norms of rows of any width") {
  MI_NEEDS_MACHINE();
  for (const int64_t width : {1, 31, 64, 127, 128, 129, 576, 1000}) {
    INFO("width " << width);
    CHECK(check_norm<bf16>(3, width, 1) == "");
    CHECK(check_norm<float>(2, width, 2) == "");
  }
  CHECK(check_norm<bf16>(0, 64, 3) == "");
}

TEST_CASE("decoder: what is added to the stream, with and without bias and norm") {
  MI_NEEDS_MACHINE();
  for (const bool has_bias : {false, true})
    for (const bool has_norm : {false, true})
      for (const int64_t width : {1, 65, 576})
        CHECK(check_add(3, width, has_bias, has_norm, 4) == "");
}

TEST_CASE("decoder: q, k and v are rotated, of any count of heads and any part of them") {
  MI_NEEDS_MACHINE();
  const auto call = [](int64_t rows, int heads, int kv_heads, int dim, int turning) {
    return RotateCall{
        .rows = rows, .heads = heads, .kv_heads = kv_heads, .head_dim = dim, .turning = turning};
  };
  for (const bool has_bias : {false, true})
    for (const bool has_norms : {false, true}) {
      CHECK(check_rotate(call(3, 9, 3, 64, 64), has_bias, has_norms, 5) == "");
      CHECK(check_rotate(call(2, 1, 1, 80, 32), has_bias, has_norms, 6) == "");
      CHECK(check_rotate(call(1, 4, 2, 96, 0), has_bias, has_norms, 7) == "");
      CHECK(check_rotate(call(2, 2, 1, 256, 256), has_bias, has_norms, 8) == "");
    }
}

TEST_CASE("decoder: activations, where e^x is beyond f32, too") {
  MI_NEEDS_MACHINE();
  for (const bool gelu : {false, true})
    for (const int64_t count : {1, 1023, 1024, 1025, 5000})
      CHECK(check_activate(count, gelu, 9) == "");
}

}  // namespace
}  // namespace mi::test::cuda
