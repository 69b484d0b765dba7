#include <catch2/catch.hpp>

#include "tests/cuda/stripe_layer.h"

namespace mi::test::cuda {
namespace {

TEST_CASE("stripes: the codes are those of the estimate, for any shape") {
  MI_NEEDS_MACHINE();
  CHECK(check_stripes<bf16, 64>({1, 1, 1, 1, 0.5f}, 1) == "");
  CHECK(check_stripes<bf16, 64>({65, 65, 1, 1, 1.0f}, 2) == "");
  CHECK(check_stripes<bf16, 64>({130, 257, 3, 1, 0.25f}, 3) == "");
  CHECK(check_stripes<f16, 64>({300, 333, 2, 2, 0.2f, 5.0f, 3.0f}, 4) == "");
  CHECK(check_stripes<bf16, 64>({64 * 65 + 1, 64 * 65 + 70, 1, 1, 0.0155f, 0, 4.0f}, 5) ==
        "");  // two items
  CHECK(check_stripes<bf16, 64>({3, 4000, 8, 1, 0.005f, 0, 2.0f}, 11) == "");
  CHECK(check_stripes<bf16, 80>({63, 130, 1, 1, 0.5f}, 6) == "");
  CHECK(check_stripes<f16, 96>({64, 200, 1, 1, 0.3f}, 7) == "");
  CHECK(check_stripes<bf16, 128>({100, 300, 4, 2, 0.2f, 0, 8.0f}, 8) == "");
  CHECK(check_stripes<f16, 256>({65, 190, 1, 1, 0.35f}, 9) == "");
  CHECK(check_stripes<bf16, 256>({65, 85, 1, 1, 0.7f}, 10) == "");  // the last word is half empty
}

}  // namespace
}  // namespace mi::test::cuda
