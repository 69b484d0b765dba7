#include <immintrin.h>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backends.h"
#include "kernels/cpu/target_region.h"

namespace mi::kernels::cpu_avx2 {
constexpr const char* kName = "cpu_avx2";
static const char* missing_instruction() {
  if (!__builtin_cpu_supports("avx2")) return "AVX2";
  if (!__builtin_cpu_supports("fma")) return "FMA";
  return nullptr;
}

MI_TARGET_BEGIN("avx2,fma")
#include "kernels/cpu/isa_avx2-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/score-inl.h"
#include "kernels/cpu/backend_cpu-inl.h"
MI_TARGET_END

const Backend& backend() {
  static const CpuBackend instance;
  return instance;
}
}  // namespace mi::kernels::cpu_avx2
