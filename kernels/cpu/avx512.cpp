#include <immintrin.h>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backends.h"
#include "kernels/cpu/target_region.h"

namespace mi::kernels::cpu_avx512 {
constexpr const char* kName = "cpu_avx512";
static const char* missing_instruction() {
  if (!__builtin_cpu_supports("avx512f")) return "AVX-512 F";
  if (!__builtin_cpu_supports("avx512vl")) return "AVX-512 VL";
  if (!__builtin_cpu_supports("avx512dq")) return "AVX-512 DQ";
  if (!__builtin_cpu_supports("avx512bw")) return "AVX-512 BW";
  return nullptr;
}

MI_TARGET_BEGIN("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#include "kernels/cpu/isa_avx512-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/score-inl.h"
#include "kernels/cpu/backend_cpu-inl.h"
MI_TARGET_END

const Backend& backend() {
  static const CpuBackend instance;
  return instance;
}
}  // namespace mi::kernels::cpu_avx512
