#include "tests/cuda/index_layer.h"
#include "tests/cuda/mutants/mutant.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
namespace {

std::string found() {
  // More row blocks than threads that order them, of some 130 tiles at most.
  const Bitmaps of = bitmaps({{65, 8300}, {190, 257}, {64 * 90, 64 * 90}}, 7, 4);
  IndexSize size = kernels::cuda::index_size(of.blocks);
  std::string wrong = check_index(of, size);
  size.columns = size.columns / 8;
  return wrong + check_index(of, size);
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
