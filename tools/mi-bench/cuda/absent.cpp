#include "tools/mi-bench/cuda_runs.h"

namespace mi::tools {

Result<CudaRuns> measure_cuda(const BenchOptions& /*options*/) {
  return fail(Code::unsupported,
              "cuda: this build has no CUDA kernels; configure with nvcc on the PATH and "
              "-DMI_ENABLE_CUDA=ON");
}

}  // namespace mi::tools
