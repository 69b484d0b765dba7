// One accessor per CPU backend; all are built, which may run is asked at run time.
#pragma once

#include "kernels/backend.h"

namespace mi::kernels {
namespace cpu_generic {
const Backend& backend();
}
namespace cpu_avx2 {
const Backend& backend();
}
namespace cpu_avx512 {
const Backend& backend();
}
namespace cpu_avx512_bf16 {
const Backend& backend();
}
namespace cpu_amx {
const Backend& backend();
}
}  // namespace mi::kernels
