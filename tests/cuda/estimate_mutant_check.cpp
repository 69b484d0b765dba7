// mutant_check.cpp for estimates, and for the thresholds that spend a share: through whole layers.
#include <catch2/catch.hpp>

#include <cstdio>
#include <string>

#include "tests/cuda/device_layer.h"
#include "tests/cuda/head_entries.h"

namespace mi::test::cuda {
namespace {

std::string check(const PlanShape& shape, std::vector<HeadEntry> heads, float sigma,
                  size_t wave_bytes) {
  HeadConfig config = config_of(shape, {std::move(heads)});
  config.kernel.last = 10;
  return DeviceRun<bf16, 64>(config, shape, {.wave_bytes = wave_bytes}).check(1, sigma);
}

std::string find_fault() {
  constexpr Element kElement = Element::bf16;
  constexpr size_t kTogether = size_t{1} << 30;
  // Two chunks of keys.
  std::string wrong = check(
      shape_of(70, 4300, 2, 1, 64, kElement),
      {vertical(Pattern::vertical_slash, 0.04), vertical(Pattern::stripe_vertical_slash, 0.06)},
      1.5f, kTogether);
  if (!wrong.empty()) return wrong;
  wrong = check(shape_of(300, 333, 4, 2, 64, kElement),
                {blocks(0, 0.2), blocks(8, 0.2), blocks(16, 0.2), blocks(0, 0.1)}, 4, 1);
  if (!wrong.empty()) return wrong;
  return check(shape_of(520, 640, 4, 2, 64, kElement),
               {spending(stripe(1), 0.01), spending(vertical(Pattern::vertical_slash, 1), 0.4),
                spending(blocks(16, 1), 0.3), spending(stripe(1), 0.3)},
               2, kTogether);
}

TEST_CASE("a fault in the kernel text is found") {
  const std::string wrong = find_fault();
  std::printf("%s", wrong.empty() ? "nothing found\n" : wrong.c_str());
  CHECK(wrong.empty() == (MI_EXPECT_FAULT == 0));
}

}  // namespace
}  // namespace mi::test::cuda
