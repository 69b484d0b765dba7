// This machine's ceilings, measured in this process and held against two things that must not be
// above them: the clock times what an instruction does, and a library's matrix products.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "libsearch/model/linear.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/peaks.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

// Of all threads together, best of the rounds; what this CPU does not have is 0.
struct Roof {
  std::vector<Peak> peaks;        // [all_units()]
  std::vector<double> softmaxes;  // [all_softmaxes()] tiles per nanosecond
  double bf16_gemm = 0;           // GFLOP/s
  double f32_gemm = 0;
  double l2 = 0;    // GB/s read: 1 MiB per thread
  double l3 = 0;    // 16 MiB per thread
  double dram = 0;  // 512 MiB per thread

  // The fastest unit that products of bf16, or of f32, can run on.
  [[nodiscard]] double best(bool narrow) const {
    double best = 0;
    for (size_t i = 0; i < peaks.size(); ++i) {
      const Unit unit = all_units()[i].unit;
      if (narrow || unit == Unit::fma_avx512 || unit == Unit::fma_avx2)
        best = std::max(best, peaks[i].gflops);
    }
    return best;
  }
};

// Bytes read of a buffer of its own, often enough that the first, cold pass does not count.
double read_rate(int threads, int rounds, size_t bytes) {
  const size_t words = bytes / 8;
  std::vector<AlignedBuffer<uint64_t>> buffers(static_cast<size_t>(threads));
  for (auto& buffer : buffers) buffer.resize(words);
  const size_t passes = std::max<size_t>(1, (size_t{256} << 20) / bytes);
  const auto read = [&] {
    const uint64_t* data = buffers[static_cast<size_t>(omp_get_thread_num())].data();
    uint64_t a = 0, b = 0, c = 0, d = 0;  // named, as the accumulators of peaks.cpp
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
  };
  double best = 0;
  for (int round = 0; round <= rounds; ++round) best = std::max(best, cpu_rate(threads, read));
  return best;
}

// oneDNN's product of one width, one per thread.
template <class T>
class Gemm {
 public:
  explicit Gemm(int width)
      : width_(width),
        linear_(width, width, search::Epilogue::none),
        packed_(linear_.packed_bytes()),
        x_({1, search::kChunkRows, width}) {
    Tensor<float, 3> weight({1, width, width});
    fill_random(weight, 1);
    fill_random(x_, 2);
    linear_.pack(weight.data(), packed_.data());
  }
  [[nodiscard]] double gflops(int threads) const {
    return cpu_rate(threads, [this] {
      constexpr int kCalls = 100;
      AlignedBuffer<float> y(static_cast<size_t>(search::kChunkRows) * static_cast<size_t>(width_));
      AlignedBuffer<std::byte> scratch(linear_.scratch_bytes());
      for (int call = 0; call < kCalls; ++call)
        linear_.apply(x_.data(), packed_.data(), y.data(), nullptr, scratch.data());
      return 2.0 * kCalls * search::kChunkRows * width_ * width_;
    });
  }

 private:
  int width_;
  search::Linear<T, float> linear_;
  AlignedBuffer<std::byte> packed_;
  Tensor<T, 3> x_;
};

// In turns, so that a minute of high clock lifts all of them.
Roof measure_roof(int threads, int rounds) {
  constexpr std::array kWidths = {576, 1024};  // f32 runs fastest at the first, bf16 varies
  std::vector<std::unique_ptr<Gemm<float>>> wide;
  std::vector<std::unique_ptr<Gemm<bf16>>> narrow;
  for (const int width : kWidths) {
    wide.push_back(std::make_unique<Gemm<float>>(width));
    if (search::bf16_linear_available()) narrow.push_back(std::make_unique<Gemm<bf16>>(width));
  }
  const auto units = all_units();
  const auto softmaxes = all_softmaxes();
  Roof roof;
  roof.peaks.resize(units.size());
  roof.softmaxes.resize(softmaxes.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < units.size(); ++i)
      if (runs_here(units[i].backend)) take_better(roof.peaks[i], measure_peak(units[i], threads));
    for (const auto& gemm : narrow)
      roof.bf16_gemm = std::max(roof.bf16_gemm, gemm->gflops(threads));
    for (const auto& gemm : wide) roof.f32_gemm = std::max(roof.f32_gemm, gemm->gflops(threads));
    for (size_t i = 0; i < softmaxes.size(); ++i)
      if (runs_here(softmaxes[i].backend))
        roof.softmaxes[i] = std::max(roof.softmaxes[i], softmax_rate(softmaxes[i], threads));
  }
  roof.l2 = read_rate(threads, rounds, size_t{1} << 20);
  roof.l3 = read_rate(threads, rounds, size_t{16} << 20);
  roof.dram = read_rate(threads, std::min(rounds, 3), size_t{512} << 20);
  return roof;
}

std::vector<std::string> warnings_of(const Roof& roof) {
  std::vector<std::string> warnings;
  for (const bool narrow : {true, false}) {
    const double gemm = narrow ? roof.bf16_gemm : roof.f32_gemm;
    if (gemm > roof.best(narrow))
      warnings.push_back(fmt::format("{} GEMM at {:.0f} GFLOP/s beats the roof of {:.0f}",
                                     narrow ? "bf16" : "f32", gemm, roof.best(narrow)));
  }
  return warnings;
}

double of_clock(const UnitInfo& unit, const Peak& peak) {
  return peak.gflops / (peak.ghz * unit.flop_per_cycle);
}
double tile_ns(double rate, int threads) {
  return threads / rate;
}
double gexp(double tile_rate) {
  return tile_rate * kernels::kRowBlock * kernels::kKeyTile;
}

std::string table(const Roof& roof, int threads) {
  std::string text = fmt::format("{:<24}{:>8}\n", "threads", threads);
  for (size_t i = 0; i < roof.peaks.size(); ++i) {
    const UnitInfo& unit = all_units()[i];
    const Peak& peak = roof.peaks[i];
    if (peak.gflops == 0) continue;
    text += fmt::format("{:<24}{:>8.0f} GFLOP/s, {:.1f} % of {} FLOP per cycle at {:.2f} GHz\n",
                        unit.name, peak.gflops, 100 * of_clock(unit, peak), unit.flop_per_cycle,
                        peak.ghz / threads);
  }
  for (const bool narrow : {true, false}) {
    const double gemm = narrow ? roof.bf16_gemm : roof.f32_gemm;
    if (gemm == 0) continue;
    text += fmt::format("{:<24}{:>8.0f} GFLOP/s, {:.1f} % of the roof\n",
                        narrow ? "bf16 GEMM (oneDNN)" : "f32 GEMM (oneDNN)", gemm,
                        100 * gemm / roof.best(narrow));
  }
  for (size_t i = 0; i < roof.softmaxes.size(); ++i)
    if (roof.softmaxes[i] > 0)
      text += fmt::format("softmax {:<16}{:>8.0f} ns per 64 x 64 tile and thread, {:.1f} Gexp/s\n",
                          all_softmaxes()[i].name, tile_ns(roof.softmaxes[i], threads),
                          gexp(roof.softmaxes[i]));
  text += fmt::format("{:<24}{:>8.1f} GB/s\n{:<24}{:>8.1f} GB/s\n{:<24}{:>8.1f} GB/s\n", "L2 read",
                      roof.l2, "L3 read", roof.l3, "DRAM read", roof.dram);
  for (const std::string& warning : warnings_of(roof)) text += "warning: " + warning + "\n";
  return text;
}

std::string json_of(const Roof& roof, int threads) {
  nlohmann::ordered_json json = {{"threads", threads}};
  for (size_t i = 0; i < roof.peaks.size(); ++i) {
    const UnitInfo& unit = all_units()[i];
    const Peak& peak = roof.peaks[i];
    const bool here = peak.gflops > 0;
    json["units"][std::string(unit.key)] = {{"gflops", peak.gflops},
                                            {"ghz", peak.ghz / threads},
                                            {"flop_per_cycle", unit.flop_per_cycle},
                                            {"of_clock", here ? of_clock(unit, peak) : 0}};
  }
  json["bf16_gemm_gflops"] = roof.bf16_gemm;
  json["f32_gemm_gflops"] = roof.f32_gemm;
  for (size_t i = 0; i < roof.softmaxes.size(); ++i)
    json["softmax"][std::string(all_softmaxes()[i].key)] = {
        {"tile_ns", roof.softmaxes[i] > 0 ? tile_ns(roof.softmaxes[i], threads) : 0},
        {"gexp", gexp(roof.softmaxes[i])}};
  json["l2_read_gbs"] = roof.l2;
  json["l3_read_gbs"] = roof.l3;
  json["dram_read_gbs"] = roof.dram;
  json["warnings"] = warnings_of(roof);
  return json.dump(2) + "\n";
}

}  // namespace

int run_roof(const BenchOptions& options) {
  const int threads = threads_of(options);
  const Roof roof = measure_roof(threads, options.rounds);
  return report(kBench, print_result(options.json ? json_of(roof, threads) : table(roof, threads)));
}

}  // namespace mi::tools
