// Dense and sparse bf16 attention, the stripe estimate, the index build and a layer of a plan on a
// CUDA device. A command of its own: there are no threads, and the peak is a product of cuBLAS.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/mi-bench/cuda_runs.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

double tflops(const CudaRun& run) {
  return run.flop / median(run.ms) * 1e-9;
}
// Time of `slow` over that of `fast`: median over the rounds.
double speedup(const CudaRun& slow, const CudaRun& fast) {
  return median(ratios({.all = slow.ms}, {.all = fast.ms}));
}

nlohmann::ordered_json json_of(const kernels::cuda::DeviceInfo& device) {
  return {{"name", device.name},
          {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
          {"multiprocessors", device.multiprocessors},
          {"clock_mhz", device.clock_mhz},
          {"memory_bytes", device.memory_bytes},
          {"l2_bytes", device.l2_bytes},
          {"cuda_driver", device.driver},
          {"cuda_runtime", device.runtime}};
}

nlohmann::ordered_json json_of(const CudaRun& run, const std::vector<CudaRun>& group) {
  const auto [least, most] = std::minmax_element(run.ms.begin(), run.ms.end());
  nlohmann::ordered_json json = {{"name", run.name},     {"head_dim", run.head_dim},
                                 {"tokens", run.tokens}, {"ms", median(run.ms)},
                                 {"ms_least", *least},   {"ms_most", *most}};
  if (run.flop > 0) {
    json["tflops"] = tflops(run);
    json["of_gemm"] = tflops(run) / tflops(group[kCudaGemm]);
  }
  if (run.executed > 0) {
    const double faster = speedup(group[kCudaDense], run);
    json["executed"] = run.executed;
    json["speedup"] = faster;
    json["per_flop"] = faster * run.executed;
  }
  if (run.error) json["error"] = *run.error;
  return json;
}

std::string table(const CudaRuns& runs) {
  const auto& device = runs.device;
  std::string text = fmt::format(
      "{}, compute capability {}.{}, {} multiprocessors, up to {} MHz, {:.0f} GiB; CUDA {}.{}, "
      "driver "
      "for {}.{}\n{} query and {} KV heads, bf16; TFLOP/s: useful of dense, executed of sparse\n"
      "{:<16} {:>4} {:>8} {:>10} {:>21} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8}\n",
      device.name, device.major, device.minor, device.multiprocessors, device.clock_mhz,
      static_cast<double>(device.memory_bytes) / (1 << 30), device.runtime / 1000,
      device.runtime % 1000 / 10, device.driver / 1000, device.driver % 1000 / 10, kHeads, kKvHeads,
      "", "d", "tokens", "ms", "range", "TFLOP/s", "of GEMM", "executed", "speed-up", "per FLOP",
      "error");
  for (const auto& group : runs.groups)
    for (const CudaRun& run : group) {
      const auto [least, most] = std::minmax_element(run.ms.begin(), run.ms.end());
      text += fmt::format("{:<16} {:>4} {:>8} {:>10.3f} {:>10.3f}-{:<10.3f}", run.name,
                          run.head_dim, run.tokens, median(run.ms), *least, *most);
      text += run.flop > 0 ? fmt::format(" {:>8.1f} {:>6.1f} %", tflops(run),
                                         100 * tflops(run) / tflops(group[kCudaGemm]))
                           : fmt::format("{:18}", "");
      const double faster = speedup(group[kCudaDense], run);
      text += run.executed > 0 ? fmt::format(" {:>7.1f} % {:>8.2f} {:>6.0f} %", 100 * run.executed,
                                             faster, 100 * faster * run.executed)
                               : fmt::format("{:28}", "");
      if (run.error) text += fmt::format(" {:>8.1e}", *run.error);
      text.erase(text.find_last_not_of(' ') + 1);
      text += "\n";
    }
  return text;
}

}  // namespace

int run_cuda(const BenchOptions& options) {
  const auto runs = measure_cuda(options);
  if (!runs) return report(kBench, runs.error());
  if (!options.json) return report(kBench, print_result(table(*runs)));
  auto rows = nlohmann::ordered_json::array();
  for (const auto& group : runs->groups)
    for (const CudaRun& run : group) rows.push_back(json_of(run, group));
  const nlohmann::ordered_json json = {{"device", json_of(runs->device)}, {"rows", rows}};
  return report(kBench, print_result(json.dump(2) + "\n"));
}

}  // namespace mi::tools
