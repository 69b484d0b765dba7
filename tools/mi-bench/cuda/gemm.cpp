#include "tools/mi-bench/cuda/gemm.h"

#include <utility>

#include "tools/mi-bench/timing.h"

namespace mi::tools {
namespace {

using kernels::cuda::DeviceBuffer;

// Random, since zeros let the clock rise; repeated, since making all of them takes seconds.
Result<DeviceBuffer> random_matrix(uint64_t seed) {
  Tensor<bf16, 3> part({1, 1, 64 * CublasGemm::kSize});
  fill_random(part, seed);
  const size_t bytes = part.span().size_bytes();
  constexpr size_t kParts = CublasGemm::kSize / 64;
  MI_TRY(DeviceBuffer matrix, DeviceBuffer::make(kParts * bytes));
  for (size_t i = 0; i < kParts; ++i) MI_CHECK(matrix.upload(part.data(), bytes, i * bytes));
  return matrix;
}

}  // namespace

Result<CublasGemm> CublasGemm::make(uint64_t seed) {
  MI_TRY(auto gemm, kernels::cuda::Gemm::make());
  CublasGemm made(std::move(gemm));
  MI_TRY(made.a_, random_matrix(seed));
  MI_TRY(made.b_, random_matrix(seed + 1));
  MI_TRY(made.c_, DeviceBuffer::make(made.a_.size()));
  return made;
}

Status CublasGemm::launch(CUstream_st* stream) const {
  const auto at = [](const DeviceBuffer& matrix) { return reinterpret_cast<bf16*>(matrix.data()); };
  return gemm_.launch(
      kernels::cuda::GemmCall<bf16>{
          .x = at(a_), .w = at(b_), .y = at(c_), .rows = kSize, .in = kSize, .out = kSize},
      stream);
}

}  // namespace mi::tools
