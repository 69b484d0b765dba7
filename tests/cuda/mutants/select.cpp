#include "tests/cuda/mutants/mutant.h"
#include "tests/cuda/select_layer.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

// Some raises, heads of every rule, more words than threads and all of them tied.
std::string found() {
  HeadRule codes{.rule = KeyRule::codes, .shares_cap = 1, .second_look = 1.5};
  codes.sink = 4;
  codes.local = 32;
  codes.last = 64;
  HeadRule window = window_rule(200, 4, 64);
  window.shares_cap = 1;
  HeadRule alone = codes;
  alone.shares_cap = 0;
  constexpr uint64_t kSeed = 4;
  return check_select({{200, 700}, {codes, window, HeadRule{}, codes, alone}, 46, 7}, 0, kSeed) +
         check_select({{65, 64 * 140 + 3}, {alone}}, 4, kSeed) +
         check_select({{200, 700}, {window_rule(189, 4, 64)}}, 0, kSeed) +  // whole tiles
         check_select({{65, 64 * 140 + 3}, {HeadRule{.rule = KeyRule::codes}}}, 0, kSeed);
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
