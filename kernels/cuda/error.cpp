#include "kernels/cuda/error.h"

#include <cuda_runtime_api.h>

namespace mi::kernels::cuda {

Status status_of(int error, const std::string& what) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();  // else the caller's next check finds it
  const auto code = static_cast<cudaError_t>(error);
  int driver = 0;
  const bool no_driver = code == cudaErrorInsufficientDriver &&
                         cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
  const char* text = no_driver ? "no NVIDIA driver is installed" : cudaGetErrorString(code);
  return fail(code == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::device,
              what + ": " + text + " (" + cudaGetErrorName(code) + ", CUDA error " +
                  std::to_string(error) + ")");
}

}  // namespace mi::kernels::cuda
