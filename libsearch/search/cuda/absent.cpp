#include "libsearch/search/forward_device.h"

namespace mi::search {

Result<std::unique_ptr<ForwardDevice>> open_cuda() {
  return fail(Code::unsupported,
              "cuda: this build has no CUDA kernels or no cuBLAS; configure with nvcc on the PATH "
              "and -DMI_ENABLE_CUDA=ON");
}

}  // namespace mi::search
