// This machine's ceilings, measured in this process.
#include <immintrin.h>
#include <omp.h>
#include <algorithm>
#include <bit>
#include <ctime>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/backend.h"
#include "kernels/cpu/target_region.h"
#include "libsearch/model/linear.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

constexpr int kRepeats = 4000000;  // 10 ms of FMA, 30 ms of tiles

bool has(std::string_view backend) {
  const auto found = kernels::choose_backend(backend);
  return found.has_value();
}

// FLOP of one call. Accumulators are named one by one: in an array the compiler may keep them in
// memory, which showed a third of what a GEMM reached.
MI_TARGET_BEGIN("avx512f")
double fma_avx512(float* out) {
  const __m512 x = _mm512_set1_ps(out[0]), y = _mm512_set1_ps(out[1]);
  __m512 a = x, b = y, c = x, d = y, e = x, f = y, g = x, h = y, i = x, j = y, k = x, l = y;
  for (int n = 0; n < kRepeats; ++n) {
    asm volatile(
        "vfmadd231ps %12, %13, %0\n vfmadd231ps %12, %13, %1\n vfmadd231ps %12, %13, %2\n"
        "vfmadd231ps %12, %13, %3\n vfmadd231ps %12, %13, %4\n vfmadd231ps %12, %13, %5\n"
        "vfmadd231ps %12, %13, %6\n vfmadd231ps %12, %13, %7\n vfmadd231ps %12, %13, %8\n"
        "vfmadd231ps %12, %13, %9\n vfmadd231ps %12, %13, %10\n vfmadd231ps %12, %13, %11\n"
        : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i), "+v"(j),
          "+v"(k), "+v"(l)
        : "v"(x), "v"(y));
  }
  _mm512_storeu_ps(out, a + b + c + d + e + f + g + h + i + j + k + l);
  return 12.0 * 32 * kRepeats;
}
MI_TARGET_END

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

// Sum over threads of work per own CPU time, best of the rounds, in units of 1e9 per second. By CPU
// time, because a roof must not fall when another process takes the core away.
template <class Work>
double best_rate(int threads, int rounds, const Work& work) {
  const auto cpu_seconds = [] {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  double best = 0;
  for (int round = 0; round <= rounds; ++round) {
    double rate = 0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
#pragma omp barrier
      const double start = cpu_seconds();
      const double done = work();
      rate += done / (cpu_seconds() - start);
    }
    best = std::max(best, 1e-9 * rate);
  }
  return best;
}

// Bytes read of a buffer of its own, often enough that the first, cold pass does not count.
double read_rate(int threads, int rounds, size_t bytes) {
  const size_t words = bytes / 8;
  std::vector<AlignedBuffer<uint64_t>> buffers(static_cast<size_t>(threads));
  for (auto& buffer : buffers) buffer.resize(words);
  const size_t passes = std::max<size_t>(1, (size_t{256} << 20) / bytes);
  return best_rate(threads, rounds, [&] {
    const uint64_t* data = buffers[static_cast<size_t>(omp_get_thread_num())].data();
    uint64_t a = 0, b = 0, c = 0, d = 0;  // named, as the accumulators above
    for (size_t pass = 0; pass < passes; ++pass)
      for (size_t i = 0; i + 32 <= words; i += 32) {  // one load a line: bandwidth, not load ports
        a += data[i];
        b += data[i + 8];
        c += data[i + 16];
        d += data[i + 24];
      }
    volatile uint64_t sink = a + b + c + d;
    (void)sink;
    return static_cast<double>(passes * bytes);
  });
}

// oneDNN's f32 product at the width it runs fastest, one per thread.
double gemm_rate(int threads, int rounds) {
  constexpr int kWidth = 576;
  constexpr int kCalls = 200;
  const search::Linear<float, float> linear(kWidth, kWidth, search::Epilogue::none);
  const std::vector<float> weight(size_t{kWidth} * kWidth, 0.37f);
  AlignedBuffer<std::byte> packed(linear.packed_bytes());
  linear.pack(weight.data(), packed.data());
  const std::vector<float> x(size_t{search::kChunkRows} * kWidth, 1.23f);
  return best_rate(threads, rounds, [&] {
    AlignedBuffer<float> y(x.size());
    AlignedBuffer<std::byte> scratch(linear.scratch_bytes());
    for (int call = 0; call < kCalls; ++call)
      linear.apply(x.data(), packed.data(), y.data(), nullptr, scratch.data());
    return 2.0 * kCalls * search::kChunkRows * kWidth * kWidth;
  });
}

}  // namespace

Roof measure_peaks(int threads, int rounds) {
  Roof roof;
  const auto with_memory = [&](double (*work)(float*)) {
    return best_rate(threads, rounds, [&] {
      alignas(64) float memory[1024];
      // Pairs of bf16 in [1, 2) with mantissas that differ.
      uint32_t state = 1;
      for (float& value : memory) {
        state = state * 1664525 + 1013904223;
        value = std::bit_cast<float>(0x3f803f80U | (state & 0x007f007fU));
      }
      return work(memory);
    });
  };
  if (has("cpu_amx")) roof.amx = with_memory(tiles_amx);
  if (has("cpu_avx512")) {
    roof.fma = with_memory(fma_avx512);
  } else if (has("cpu_avx2")) {
    roof.fma = with_memory(fma_avx2);
  }
  return roof;
}

Roof measure_roof(int threads, int rounds) {
  Roof roof = measure_peaks(threads, rounds);
  roof.gemm = gemm_rate(threads, rounds);
  roof.l2 = read_rate(threads, rounds, size_t{1} << 20);
  roof.l3 = read_rate(threads, rounds, size_t{16} << 20);
  roof.dram = read_rate(threads, std::min(rounds, 3), size_t{512} << 20);
  return roof;
}

namespace {

int run_roof(const BenchOptions& options) {
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  const Roof roof = measure_roof(threads, options.rounds);
  if (options.json)
    return report(kBench, print_result(nlohmann::json{{"threads", threads},
                                                      {"amx_bf16_gflops", roof.amx},
                                                      {"f32_fma_gflops", roof.fma},
                                                      {"f32_gemm_gflops", roof.gemm},
                                                      {"l2_read_gbs", roof.l2},
                                                      {"l3_read_gbs", roof.l3},
                                                      {"dram_read_gbs", roof.dram}}
                                           .dump(2) +
                                       "\n"));
  return report(kBench, print_result(fmt::format("threads        {:>8}\n"
                                                 "AMX bf16       {:>8.0f} GFLOP/s\n"
                                                 "f32 FMA        {:>8.0f} GFLOP/s\n"
                                                 "f32 GEMM       {:>8.0f} GFLOP/s\n"
                                                 "L2 read        {:>8.1f} GB/s\n"
                                                 "L3 read        {:>8.1f} GB/s\n"
                                                 "DRAM read      {:>8.1f} GB/s\n",
                                                 threads, roof.amx, roof.fma, roof.gemm, roof.l2,
                                                 roof.l3, roof.dram)));
}

}  // namespace

void add_roof(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "roof", "Ceilings of this machine: matrix and vector units, cache and memory");
  add_timing(*command, options);
  command->callback([&] { run = [&] { return run_roof(options); }; });
}

}  // namespace mi::tools
