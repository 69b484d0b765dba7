// A large bf16 matrix product of cuBLAS: what the device's matrix units give to who knows them
// best.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/device.h"

namespace mi::tools {

class CublasGemm {
 public:
  static constexpr int64_t kSize = 8192;  // m, n and k: a millisecond, and larger than any cache

  // The library is opened here and not linked, so that mi-bench runs where it is not. Errors:
  // unsupported, naming the file; device; out_of_memory.
  [[nodiscard]] static Result<CublasGemm> make(uint64_t seed);
  [[nodiscard]] Status launch(CUstream_st* stream);
  [[nodiscard]] static double flop() { return 2.0 * kSize * kSize * kSize; }

  CublasGemm(CublasGemm&&) noexcept;
  CublasGemm& operator=(CublasGemm&&) noexcept;
  ~CublasGemm();

 private:
  struct Library;
  CublasGemm();
  std::unique_ptr<Library> library_;
  kernels::cuda::DeviceBuffer a_, b_, c_;
};

}  // namespace mi::tools
