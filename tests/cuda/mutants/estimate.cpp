// Estimates, and the thresholds that spend a share: through whole layers.
#include "tests/cuda/device_layer.h"
#include "tests/cuda/head_entries.h"
#include "tests/cuda/mutants/mutant.h"

namespace mi::test::cuda {
namespace {

std::string check(const PlanShape& shape, std::vector<HeadEntry> heads, float sigma,
                  size_t wave_bytes, int64_t last) {
  HeadConfig config = config_of(shape, {std::move(heads)});
  config.kernel.last = last;
  return DeviceRun<bf16, 64>(config, shape, {.wave_bytes = wave_bytes}).check(1, sigma);
}

std::string found() {
  constexpr Element kElement = Element::bf16;
  constexpr size_t kTogether = size_t{1} << 30;
  const HeadEntry slash = vertical(Pattern::vertical_slash, 1);
  const HeadEntry joined = vertical(Pattern::stripe_vertical_slash, 1);
  // Two chunks of keys, the largest terms of which are far apart in the second.
  std::string wrong = check(
      shape_of(70, 4300, 2, 1, 64, kElement),
      {vertical(Pattern::vertical_slash, 0.04), vertical(Pattern::stripe_vertical_slash, 0.06)},
      1.5f, kTogether, 10);
  wrong += check(shape_of(1, 4300, 2, 1, 64, kElement),
                 {vertical(Pattern::vertical_slash, 0.01), vertical(Pattern::vertical_slash, 0.04)},
                 2.5f, kTogether, 0);
  if (!wrong.empty()) return wrong;
  // So few keys that each row's own has a share, and that stripes and columns both matter.
  wrong = check(shape_of(140, 140, 6, 2, 64, kElement),
                {spending(slash, 0.5), spending(slash, 0.6), spending(joined, 0.7),
                 spending(slash, 0.8), spending(joined, 0.55), spending(slash, 0.65)},
                1.5f, kTogether, 0);
  if (!wrong.empty()) return wrong;
  wrong = check(shape_of(300, 333, 4, 2, 64, kElement),
                {blocks(0, 0.2), blocks(8, 0.2), blocks(16, 0.2), blocks(0, 0.1)}, 4, 1, 10);
  // A last row block of eight rows that is not dense.
  wrong += check(
      shape_of(200, 333, 4, 2, 64, kElement),
      {blocks(8, 0.2), blocks(16, 0.2), spending(blocks(8, 1), 0.5), spending(blocks(16, 1), 0.4)},
      4, kTogether, 0);
  if (!wrong.empty()) return wrong;
  return check(shape_of(520, 640, 4, 2, 64, kElement),
               {spending(stripe(1), 0.01), spending(slash, 0.4), spending(blocks(16, 1), 0.3),
                spending(stripe(1), 0.3)},
               2, kTogether, 10);
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
