// Errors of the CUDA runtime as Status.
#pragma once

#include <string>

#include "kernels/status.h"

namespace mi::kernels::cuda {

// `error` is a cudaError_t. "what: text (cudaErrorNoDevice, CUDA error 100)"; out_of_memory or
// device. What the runtime remembers of the error is cleared.
[[nodiscard]] Status status_of(int error, const std::string& what);

}  // namespace mi::kernels::cuda
