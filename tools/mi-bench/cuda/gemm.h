// A large bf16 matrix product of cuBLAS: what the device's matrix units give to who knows them
// best.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm.h"

namespace mi::tools {

class CublasGemm {
 public:
  static constexpr int64_t kSize = 8192;  // m, n and k: a millisecond, and larger than any cache

  // Errors: as Gemm::make; out_of_memory.
  [[nodiscard]] static Result<CublasGemm> make(uint64_t seed);
  [[nodiscard]] Status launch(CUstream_st* stream) const;
  [[nodiscard]] static double flop() { return 2.0 * kSize * kSize * kSize; }

 private:
  explicit CublasGemm(kernels::cuda::Gemm gemm) : gemm_(std::move(gemm)) {}
  kernels::cuda::Gemm gemm_;
  kernels::cuda::DeviceBuffer a_, b_, c_;
};

}  // namespace mi::tools
