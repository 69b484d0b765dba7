#include "tests/cuda/mutants/mutant.h"
#include "tests/cuda/stripe_layer.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

// Many keys near the threshold, and means of three queries, which need more bits than bf16 has.
std::string found() {
  constexpr uint64_t kSeed = 4;
  return check_stripes<bf16, 64>({130, 257, 3, 1, 0.25f, 0, 4.0f}, kSeed) +
         check_stripes<bf16, 64>({3, 4000, 8, 1, 0.005f, 0, 2.0f}, kSeed);
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
