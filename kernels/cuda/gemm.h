// Matrix products by cuBLAS.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/half.h"
#include "kernels/status.h"

struct CUstream_st;

namespace mi::kernels::cuda {

// A product: y = x w^T with sums in f32; all contiguous in device memory, 16-byte aligned.
template <class Out>  // float or bf16
struct GemmCall {
  const bf16* x = nullptr;  // [rows, in]
  const bf16* w = nullptr;  // [out, in], as checkpoints hold weights
  Out* y = nullptr;         // [rows, out]
  int64_t rows = 0, in = 0, out = 0;
};

class Gemm {
 public:
  // libcublas is opened here and not linked, so that programs run where it is not. Errors:
  // unsupported, naming the file; device.
  [[nodiscard]] static Result<Gemm> make();
  // On the caller's stream, waiting for nothing. Errors: invalid_argument, for sizes past 2^31 - 1;
  // device.
  template <class Out>
  [[nodiscard]] Status launch(const GemmCall<Out>& call, CUstream_st* stream) const;

  Gemm(Gemm&&) noexcept;
  Gemm& operator=(Gemm&&) noexcept;
  ~Gemm();

 private:
  struct Library;
  explicit Gemm(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace mi::kernels::cuda
