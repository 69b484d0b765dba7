#include "tests/cuda/layer.h"
#include "tests/cuda/mutants/mutant.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

std::string found() {
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
  return {};
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
