// A layer of attention on a device or the emulator of one, against the oracle: several sequences
// and heads in one launch, every row block over keys of its own.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "tests/cuda/machine.h"

namespace mi::test::cuda {

struct Layer {
  std::vector<std::pair<int64_t, int64_t>> sequences;  // n_q, n_kv
  int heads = 1;
  int kv_heads = 1;
  float softcap = 0;
  float sigma = 1;           // of q and k
  float scale = 0;           // 0: 1/sqrt(head_dim)
  bool tokens_first = true;  // [tokens, heads, dim], else [heads, tokens, dim]
  bool with_lse = true;
  bool sparse = true;  // a selection per row block, or none; else none for all
};

// Empty if all is right: no fault, nothing written beside the outputs, as many products as the
// tiles of the cost function take, o and lse within what tests/ideal.h allows. worst: the largest
// error as a share of the allowed, kept if it is larger already.
template <class T>
[[nodiscard]] std::string check_layer(const Kernel<T>& kernel, const Layer& layer, uint64_t seed,
                                      double* worst);

}  // namespace mi::test::cuda
