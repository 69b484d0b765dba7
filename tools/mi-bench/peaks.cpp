#include "tools/mi-bench/peaks.h"

#include <cpuid.h>
#include <immintrin.h>
#include <omp.h>
#include <algorithm>
#include <array>
#include <bit>
#include <ctime>

#include "kernels/cpu/target_region.h"
#include "kernels/tensor_view.h"

namespace mi::tools {
namespace {

constexpr int kRepeats = 4000000;  // 10 ms of FMA, 30 ms of tiles, 10 to 40 ms of dot products

// FLOP of one call.
MI_TARGET_BEGIN("avx512f,avx512bf16")
#include "kernels/cpu/peak_avx512-inl.h"
double fma_avx512(float* memory) {
  return repeat_fma(memory, kRepeats);
}
double dot_avx512(float* memory) {
  return repeat_dot(memory, kRepeats);
}
MI_TARGET_END

// Named accumulators as in peak_avx512-inl.h.
MI_TARGET_BEGIN("avx2,fma")
double fma_avx2(float* out) {
  const __m256 x = _mm256_set1_ps(out[0]), y = _mm256_set1_ps(out[1]);
  __m256 a = x, b = y, c = x, d = y, e = x, f = y, g = x, h = y, i = x, j = y, k = x, l = y;
  for (int n = 0; n < kRepeats; ++n) {
    asm volatile(
        "vfmadd231ps %12, %13, %0\n vfmadd231ps %12, %13, %1\n vfmadd231ps %12, %13, %2\n"
        "vfmadd231ps %12, %13, %3\n vfmadd231ps %12, %13, %4\n vfmadd231ps %12, %13, %5\n"
        "vfmadd231ps %12, %13, %6\n vfmadd231ps %12, %13, %7\n vfmadd231ps %12, %13, %8\n"
        "vfmadd231ps %12, %13, %9\n vfmadd231ps %12, %13, %10\n vfmadd231ps %12, %13, %11\n"
        : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f), "+x"(g), "+x"(h), "+x"(i), "+x"(j),
          "+x"(k), "+x"(l)
        : "x"(x), "x"(y));
  }
  _mm256_storeu_ps(out, a + b + c + d + e + f + g + h + i + j + k + l);
  return 12.0 * 16 * kRepeats;
}
MI_TARGET_END

MI_TARGET_BEGIN("avx512f,amx-tile,amx-bf16")
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
double tiles_amx(float* memory) {
  static constexpr TileConfig kConfig;
  asm volatile("" ::: "memory");
  _tile_loadconfig(&kConfig);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, memory, 64);
  _tile_loadd(5, memory + 256, 64);
  _tile_loadd(6, memory + 512, 64);
  _tile_loadd(7, memory + 768, 64);
  constexpr int kLoops = kRepeats / 4;
  for (int n = 0; n < kLoops; ++n) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 4.0 * 16384 * kLoops;
}
MI_TARGET_END

// Adds that wait for each other, one cycle each. Of registers: cores since Golden Cove fold chains
// of added constants. 0.3 ms, in which a clock lowered by wide vectors does not yet rise.
double dependent_adds() {
  constexpr int kLoops = 50000;
  uint64_t sum = 0;
  const uint64_t one = 1;
  for (int n = 0; n < kLoops; ++n)
    asm volatile(
        "add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n"
        "add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n"
        "add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n add %1, %0\n"
        "add %1, %0\n add %1, %0\n"
        : "+r"(sum)
        : "r"(one));
  return static_cast<double>(sum);
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double (*loop_of(Unit unit))(float*) {
  switch (unit) {
    case Unit::amx:
      return tiles_amx;
    case Unit::dot:
      return dot_avx512;
    case Unit::fma_avx512:
      return fma_avx512;
    case Unit::fma_avx2:
      return fma_avx2;
  }
  return nullptr;
}

// Of an AMD core 0x19 is Zen 3 and 4, 0x1a Zen 5; 0 of others.
unsigned amd_family() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__builtin_cpu_is("amd") || __get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return 0;
  return ((eax >> 8) & 0xf) + ((eax >> 20) & 0xff);
}

std::array<UnitInfo, 4> units_here() {
  // Sapphire Rapids: tdpbf16ps takes 16 cycles, vdpbf16ps 2, vfmadd231ps half a cycle.
  std::array<UnitInfo, 4> units = {{
      {Unit::amx, "AMX bf16", "amx_bf16", "cpu_amx", 1024},
      {Unit::dot, "AVX-512 bf16", "avx512_bf16", "cpu_avx512_bf16", 32},
      {Unit::fma_avx512, "AVX-512 FMA", "avx512_fma", "cpu_avx512", 64},
      {Unit::fma_avx2, "AVX2 FMA", "avx2_fma", "cpu_avx2", 32},
  }};
  // Zen 4 halves 512-bit instructions and starts a vdpbf16ps every cycle (measured); Zen 5 has
  // units of 512 bits and starts two (not measured: AMD's tables).
  const unsigned family = amd_family();
  if (family == 0x19) {
    units[1].flop_per_cycle = 64;
    units[2].flop_per_cycle = 32;
  } else if (family == 0x1a) {
    units[1].flop_per_cycle = 128;
  }
  return units;
}

}  // namespace

double cpu_rate(int threads, const std::function<double()>& work) {
  double rate = 0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
  {
#pragma omp barrier
    const double start = cpu_seconds();
    const double done = work();
    rate += done / (cpu_seconds() - start);
  }
  return 1e-9 * rate;
}

std::span<const UnitInfo> all_units() {
  static const std::array<UnitInfo, 4> units = units_here();
  return units;
}

bool runs_here(std::string_view backend) {
  return kernels::choose_backend(backend).has_value();
}

const UnitInfo* unit_under(const kernels::Backend& backend, bool narrow) {
  const std::string_view name = narrow ? backend.name() : backend.f32().name();
  const auto units = all_units();
  const auto found = std::find_if(units.begin(), units.end(),
                                  [&](const UnitInfo& unit) { return unit.backend == name; });
  return found == units.end() ? nullptr : &*found;
}

Peak measure_peak(const UnitInfo& unit, int threads) {
  double (*loop)(float*) = loop_of(unit.unit);
  Peak peak;
  double gflops = 0;
  double ghz = 0;
#pragma omp parallel num_threads(threads) reduction(+ : gflops, ghz)
  {
    alignas(64) float memory[1024];
    // Pairs of bf16 in [1, 2) with mantissas that differ.
    uint32_t state = 1;
    for (float& value : memory) {
      state = state * 1664525 + 1013904223;
      value = std::bit_cast<float>(0x3f803f80U | (state & 0x007f007fU));
    }
#pragma omp barrier
    const double start = cpu_seconds();
    const double flop = loop(memory);
    const double between = cpu_seconds();
    const double adds = dependent_adds();
    gflops += 1e-9 * flop / (between - start);
    ghz += 1e-9 * adds / (cpu_seconds() - between);
  }
  peak.gflops = gflops;
  peak.ghz = ghz;
  return peak;
}

void take_better(Peak& best, const Peak& other) {
  best.gflops = std::max(best.gflops, other.gflops);
  best.ghz = std::max(best.ghz, other.ghz);
}

double softmax_rate(const Softmax& softmax, int threads) {
  return cpu_rate(threads, [&] {
    AlignedBuffer<float> memory(kSoftmaxFloats);
    return softmax.run(memory.data());
  });
}

}  // namespace mi::tools
