// Contestants timed in turns, so that a slow minute of the machine hits all of them; random bf16
// tensors (zeros make AMX 14 % faster); this machine's ceilings.
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
  std::vector<double> all;  // ascending
};
// One round more than asked for: the first, which touches the memory, is thrown away.
[[nodiscard]] std::vector<Timing> alternate(std::vector<std::function<void()>> contestants,
                                            int rounds);

// Standard normal values.
void fill_random(Tensor<float, 3>& tensor, uint64_t seed);
void fill_random(Tensor<bf16, 3>& tensor, uint64_t seed);

// Of all threads together; a ceiling that this CPU does not have is 0. Best of `rounds`: a roof is
// what the machine can do, not what it does on average.
struct Roof {
  double amx = 0;   // GFLOP/s of tdpbf16ps from registers
  double dot = 0;   // GFLOP/s of vdpbf16ps from registers
  double fma = 0;   // GFLOP/s of f32 FMA from registers
  double gemm = 0;  // GFLOP/s of f32 matrix products: must lie below fma
  double l2 = 0;    // GB/s read: 1 MiB per thread
  double l3 = 0;    // 16 MiB per thread
  double dram = 0;  // 512 MiB per thread
};
[[nodiscard]] Roof measure_roof(int threads, int rounds);
// Only those that attention is compared with.
[[nodiscard]] Roof measure_peaks(int threads, int rounds);

}  // namespace mi::tools
