#include "kernels/cuda/gemm.h"

#include <dlfcn.h>

#include <cublas_v2.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

namespace mi::kernels::cuda {
namespace {

#define MI_TEXT_INNER(x) #x
#define MI_TEXT(x) MI_TEXT_INNER(x)
constexpr const char* kFile = "libcublas.so." MI_TEXT(CUBLAS_VER_MAJOR);

}  // namespace

struct Gemm::Library {
  // The one of two overloads that the library has.
  using Function = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                  int, const void*, const void*, cudaDataType, int, const void*,
                                  cudaDataType, int, const void*, void*, cudaDataType, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);
  void* file = nullptr;  // open to the end of the process, as it would be if it were linked
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasGetStatusName) status_name = nullptr;
  Function* gemm = nullptr;
  cublasHandle_t handle = nullptr;

  template <class F>
  [[nodiscard]] bool find(F& function, const char* name) const {
    function = reinterpret_cast<F>(dlsym(file, name));
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

Gemm::Gemm(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;
Gemm::~Gemm() = default;

Result<Gemm> Gemm::make() {
  auto library = std::make_unique<Library>();
  MI_CHECK(library->open());
  return Gemm(std::move(library));
}

template <class Out>
Status Gemm::launch(const GemmCall<Out>& call, CUstream_st* stream) const {
  if (std::max({call.rows, call.in, call.out}) > INT32_MAX)
    return fail(Code::invalid_argument, "cuBLAS: got a matrix of more than 2147483647 rows");
  if (call.rows == 0) return {};
  MI_CHECK(library_->status_of(library_->set_stream(library_->handle, stream)));
  // Its matrices are column by column, so it is asked for y^T = w x^T.
  const float one = 1, zero = 0;
  const auto in = static_cast<int>(call.in), out = static_cast<int>(call.out);
  constexpr auto kOut = std::is_same_v<Out, float> ? CUDA_R_32F : CUDA_R_16BF;
  return library_->status_of(library_->gemm(library_->handle, CUBLAS_OP_T, CUBLAS_OP_N, out,
                                            static_cast<int>(call.rows), in, &one, call.w,
                                            CUDA_R_16BF, in, call.x, CUDA_R_16BF, in, &zero, call.y,
                                            kOut, out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

template Status Gemm::launch(const GemmCall<float>&, CUstream_st*) const;
template Status Gemm::launch(const GemmCall<bf16>&, CUstream_st*) const;

}  // namespace mi::kernels::cuda
