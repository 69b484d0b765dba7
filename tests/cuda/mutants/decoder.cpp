#include "tests/cuda/decoder_rows.h"
#include "tests/cuda/mutants/mutant.h"

namespace mi::test::cuda {
namespace {

std::string found() {
  return check_norm<bf16>(2, 129, 1) + check_add(2, 129, true, true, 2) +
         check_rotate({.rows = 2, .heads = 3, .kv_heads = 1, .head_dim = 80, .turning = 32}, true,
                      true, 3) +
         check_activate(1025, true, 4) + check_activate(1025, false, 5);
}

}  // namespace
}  // namespace mi::test::cuda

std::string find_fault() {
  return mi::test::cuda::found();
}
