
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backends.h"
#include "kernels/cpu/target_region.h"

namespace mi::kernels::cpu_generic {
constexpr const char* kName = "cpu_generic";
static const char* missing_instruction() {
  return nullptr;
}

#include "kernels/cpu/isa_generic-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/score-inl.h"
#include "kernels/cpu/backend_cpu-inl.h"

const Backend& backend() {
  static const CpuBackend instance;
  return instance;
}
}  // namespace mi::kernels::cpu_generic
