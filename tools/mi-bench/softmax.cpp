// Softmax of score tiles: the kernels' own text, compiled once more without its products.
#include <immintrin.h>
#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/cpu/target_region.h"
#include "kernels/packed.h"
#include "tools/mi-bench/peaks.h"

namespace mi::kernels::softmax_amx {
MI_TARGET_BEGIN("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma,popcnt,amx-tile,amx-bf16")
#include "kernels/cpu/isa_avx512-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/bf16_pairs-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/bf16_softmax-inl.h"
#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/amx_attention-inl.h"

// As attend_step: 64 rows of 256 scores, 4 tiles.
inline double run_softmax(float* memory) {
  constexpr int kSteps = 500;  // 1 to 2 ms
  constexpr int kWidth = kStepUnits * kUnitKeys;
  Carver carve{reinterpret_cast<char*>(memory)};
  float* s = carve.floats(int64_t{kRowBlock} * kWidth);
  auto* p = reinterpret_cast<bf16*>(carve.floats(int64_t{kRowBlock} * kWidth / 2));
  const RowState state(carve, 0);
  for (int i = 0; i < kRowBlock * kWidth; ++i) s[i] = static_cast<float>(i % 7);
  for (int r = 0; r < kRowBlock; ++r) state.top[r] = kNoTop;
  for (int i = 0; i < kRowBlock * 16; ++i) state.sum[i] = 0;
  for (int step = 0; step < kSteps; ++step) {
    for (int r = 0; r < kRowBlock; ++r) {
      float shrink = 1;
      softmax_row(s + r * kWidth, kWidth, kLog2e, state.top + r, state.sum + r * 16, p + r * kWidth,
                  &shrink);
    }
    memory_fence();
  }
  return double{kSteps} * kWidth / kKeyTile;
}
MI_TARGET_END
}  // namespace mi::kernels::softmax_amx

namespace mi::kernels::softmax_avx512 {
MI_TARGET_BEGIN("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#include "kernels/cpu/isa_avx512-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "tools/mi-bench/softmax-inl.h"
MI_TARGET_END
}  // namespace mi::kernels::softmax_avx512

namespace mi::kernels::softmax_avx2 {
MI_TARGET_BEGIN("avx2,fma")
#include "kernels/cpu/isa_avx2-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "tools/mi-bench/softmax-inl.h"
MI_TARGET_END
}  // namespace mi::kernels::softmax_avx2

namespace mi::tools {

std::span<const Softmax> all_softmaxes() {
  static constexpr std::array<Softmax, 3> kAll = {{
      {"bf16 (AMX)", "amx", "cpu_amx", kernels::softmax_amx::run_softmax},
      {"f32 (AVX-512)", "avx512", "cpu_avx512", kernels::softmax_avx512::run_softmax},
      {"f32 (AVX2)", "avx2", "cpu_avx2", kernels::softmax_avx2::run_softmax},
  }};
  return kAll;
}

}  // namespace mi::tools
