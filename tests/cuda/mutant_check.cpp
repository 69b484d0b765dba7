// Checks one build of the kernel text, in which there is a fault (MI_EXPECT_FAULT) or is none.
#include <catch2/catch.hpp>

#include <cstdio>
#include <string>

#include "tests/cuda/index_layer.h"
#include "tests/cuda/layer.h"
#include "tests/cuda/select_layer.h"
#include "tests/cuda/stripe_layer.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

std::string find_fault() {
  const std::vector<Layer> layers = {
      {{{64, 64}, {130, 257}, {1, 70}}, 3, 1},
      {{{65, 190}}, 2, 1, 5.0f, 8.0f},
      {.sequences = {{70, 200}}, .sparse = false},
  };
  uint64_t seed = 1;
  double worst = 0;
  for (const Layer& layer : layers) {
    std::string wrong = check_layer(attend_kernel<bf16, 64>(), layer, ++seed, &worst);
    wrong += check_layer(attend_kernel<bf16, 96>(), layer, seed, &worst);
    if (!wrong.empty()) return wrong;
  }
  // More row blocks than threads that order them, of some 130 tiles at most.
  const Bitmaps of = bitmaps({{65, 8300}, {190, 257}, {64 * 90, 64 * 90}}, 7, seed);
  IndexSize size = kernels::cuda::index_size(of.blocks);
  std::string wrong = check_index(of, size);
  size.columns = size.columns / 8;
  wrong += check_index(of, size);
  if (!wrong.empty()) return wrong;
  // Some raises, heads of every rule, more words than threads and all of them tied.
  HeadRule codes{.rule = KeyRule::codes, .shares_cap = 1, .second_look = 1.5};
  codes.sink = 4;
  codes.local = 32;
  codes.last = 64;
  HeadRule window = window_rule(200, 4, 64);
  window.shares_cap = 1;
  HeadRule alone = codes;
  alone.shares_cap = 0;
  wrong = check_select({{200, 700}, {codes, window, HeadRule{}, codes, alone}, 46, 7}, 0, seed) +
          check_select({{65, 64 * 140 + 3}, {alone}}, 4, seed) +
          check_select({{200, 700}, {window_rule(189, 4, 64)}}, 0, seed) +  // whole tiles
          check_select({{65, 64 * 140 + 3}, {HeadRule{.rule = KeyRule::codes}}}, 0, seed);
  if (!wrong.empty()) return wrong;
  // Many keys near the threshold, and means of three queries, which need more bits than bf16 has.
  return check_stripes<bf16, 64>({130, 257, 3, 1, 0.25f, 0, 4.0f}, seed) +
         check_stripes<bf16, 64>({3, 4000, 8, 1, 0.005f, 0, 2.0f}, seed);
}

TEST_CASE("a fault in the kernel text is found") {
  const std::string wrong = find_fault();
  std::printf("%s", wrong.empty() ? "nothing found\n" : wrong.c_str());
  CHECK(wrong.empty() == (MI_EXPECT_FAULT == 0));
}

}  // namespace
}  // namespace mi::test::cuda
