// Contestants timed in turns, so that a slow minute of the machine hits all of them; random tensors
// (zeros make AMX 14 % faster).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/half.h"
#include "kernels/tensor_view.h"

namespace mi::tools {

// Milliseconds of each contestant: median, fastest and slowest round.
struct Timing {
  double median = 0;
  double least = 0;
  double most = 0;
  std::vector<double> all;  // [round]
};
// One round more than asked for: the first, which touches the memory, is thrown away.
[[nodiscard]] std::vector<Timing> alternate(std::vector<std::function<void()>> contestants,
                                            int rounds);
[[nodiscard]] double median(std::vector<double> values);
// a / b of every round: what slows both down cancels.
[[nodiscard]] std::vector<double> ratios(const Timing& a, const Timing& b);

// Standard normal values.
void fill_random(Tensor<float, 3>& tensor, uint64_t seed);
void fill_random(Tensor<bf16, 3>& tensor, uint64_t seed);

}  // namespace mi::tools
