#include "tools/mi-bench/cuda/gemm.h"

#include <dlfcn.h>

#include <cublas_v2.h>

#include <string>
#include <utility>

#include "tools/mi-bench/timing.h"

namespace mi::tools {
namespace {

using kernels::cuda::DeviceBuffer;

#define MI_TEXT_INNER(x) #x
#define MI_TEXT(x) MI_TEXT_INNER(x)
constexpr const char* kFile = "libcublas.so." MI_TEXT(CUBLAS_VER_MAJOR);

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

struct CublasGemm::Library {
  // The one of two overloads that the library has.
  using Gemm = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                              const void*, const void*, cudaDataType, int, const void*,
                              cudaDataType, int, const void*, void*, cudaDataType, int,
                              cublasComputeType_t, cublasGemmAlgo_t);
  void* file = nullptr;  // open to the end of the process, as it would be if it were linked
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasGetStatusName) status_name = nullptr;
  Gemm* gemm = nullptr;
  cublasHandle_t handle = nullptr;

  template <class Function>
  [[nodiscard]] bool find(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(dlsym(file, name));
    return function != nullptr;
  }
  [[nodiscard]] Status open() {
    file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr || !find(create, "cublasCreate_v2") || !find(destroy, "cublasDestroy_v2") ||
        !find(set_stream, "cublasSetStream_v2") || !find(status_name, "cublasGetStatusName") ||
        !find(gemm, "cublasGemmEx")) {
      const char* why = dlerror();
      return fail(Code::unsupported, std::string("cuBLAS: ") + (why != nullptr ? why : kFile) +
                                         "; is its folder in LD_LIBRARY_PATH?");
    }
    return status_of(create(&handle));
  }
  [[nodiscard]] Status status_of(cublasStatus_t status) const {
    if (status == CUBLAS_STATUS_SUCCESS) return {};
    return fail(Code::device, std::string("cuBLAS: ") + status_name(status));
  }
  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (handle != nullptr) (void)destroy(handle);
  }
};

CublasGemm::CublasGemm() : library_(std::make_unique<Library>()) {}
CublasGemm::CublasGemm(CublasGemm&&) noexcept = default;
CublasGemm& CublasGemm::operator=(CublasGemm&&) noexcept = default;
CublasGemm::~CublasGemm() = default;

Result<CublasGemm> CublasGemm::make(uint64_t seed) {
  CublasGemm made;
  MI_CHECK(made.library_->open());
  MI_TRY(made.a_, random_matrix(seed));
  MI_TRY(made.b_, random_matrix(seed + 1));
  MI_TRY(made.c_, DeviceBuffer::make(made.a_.size()));
  return made;
}

Status CublasGemm::launch(CUstream_st* stream) {
  const float one = 1, zero = 0;
  constexpr int kN = static_cast<int>(kSize);
  MI_CHECK(library_->status_of(library_->set_stream(library_->handle, stream)));
  return library_->status_of(library_->gemm(library_->handle, CUBLAS_OP_T, CUBLAS_OP_N, kN, kN, kN,
                                            &one, a_.data(), CUDA_R_16BF, kN, b_.data(),
                                            CUDA_R_16BF, kN, &zero, c_.data(), CUDA_R_16BF, kN,
                                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

}  // namespace mi::tools
