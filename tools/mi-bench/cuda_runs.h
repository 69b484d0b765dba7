// Our kernels on a CUDA device, alone and as a plan, beside a matrix product of cuBLAS. Two
// definitions: cuda/runs.cpp, and cuda/absent.cpp in a build without a toolkit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "tools/mi-bench/commands.h"

namespace mi::tools {

struct CudaRun {
  std::string name;
  int head_dim = 0;
  int64_t tokens = 0;
  double flop =
      0;  // of a launch: useful ones of dense attention and products, executed ones; 0: none
  double executed = 0;               // key tiles, of dense attention's; 0: no attention
  std::optional<double> error = {};  // |o - exact| / |exact| of a row block
  std::vector<double> ms = {};       // of a launch, in each round
};

// Where contestants are in a group: the product first, then attention over every key, over runs of
// 64 and over single keys, the stripe estimate, the index of the single keys, a layer of a plan.
inline constexpr size_t kCudaGemm = 0, kCudaDense = 1;

struct CudaRuns {
  kernels::cuda::DeviceInfo device;
  std::vector<std::vector<CudaRun>> groups;  // of a length and head dimension
};
// Contestants of a group alternate. Errors: device, out_of_memory, unsupported.
[[nodiscard]] Result<CudaRuns> measure_cuda(const BenchOptions& options);

}  // namespace mi::tools
