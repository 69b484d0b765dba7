// Device profiles: attention of random tensors timed at two lengths, the model of device_profile.h
// fitted to it, and its error on a third length that it has not seen.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libruntime/atomic_file.h"
#include "libsearch/search/device_profile.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/pattern_runs.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

using search::HeadDimTimes;
using search::kTimedPatterns;

constexpr std::array<int64_t, 2> kFitted = {2048, 8192};
constexpr int64_t kUnseen = 16384;
constexpr std::array<int64_t, 13> kShort = {128, 192,  256,  384,  512,  640, 768,
                                            896, 1024, 1536, 2048, 3072, 4096};

// At `length` what it is at another: keys hold less mass each as there are more of them.
runtime::HeadEntry moved(runtime::HeadEntry entry, double times_longer) {
  for (auto& [length, density] : entry.density) density /= times_longer;
  for (auto& [length, window] : entry.local) window = std::round(window * times_longer);
  return entry;
}

// a, b >= 0 with a x + b y = t for both lengths, or as nearly as that goes: the least sum of
// squared relative errors.
struct Line {
  double a = 0;
  double b = 0;
};
Line fit_line(std::array<double, 2> x, std::array<double, 2> y, std::array<double, 2> t) {
  const double det = x[0] * y[1] - x[1] * y[0];
  const Line exact{(t[0] * y[1] - t[1] * y[0]) / det, (x[0] * t[1] - x[1] * t[0]) / det};
  if (exact.a >= 0 && exact.b >= 0) return exact;
  const auto alone = [&](const std::array<double, 2>& z) {
    const double r[2] = {z[0] / t[0], z[1] / t[1]};
    return (r[0] + r[1]) / (r[0] * r[0] + r[1] * r[1]);
  };
  return exact.a < 0 ? Line{0, alone(y)} : Line{alone(x), 0};
}

double dense_tiles(int64_t n) {
  return static_cast<double>(runtime::dense_tiles({n, n, 0}));
}

// As far as times depend on it.
runtime::EstimatorParams params_of(const runtime::HeadEntry& entry) {
  return {.pattern = entry.pattern, .estimate = entry.estimate, .stride = entry.stride};
}

double rounded(double value) {
  return std::stod(fmt::format("{:.4g}", value));
}

// Times of all but dense_below.
Result<HeadDimTimes> fit(int dim, std::span<const LengthRun, 2> runs,
                         std::optional<double> host_rate) {
  HeadDimTimes times;
  times.head_dim = dim;
  const std::array<double, 2> all = {dense_tiles(runs[0].n), dense_tiles(runs[1].n)};
  const Line dense =
      fit_line({1, 1}, {kHeads * all[0], kHeads * all[1]}, {runs[0].dense_ms, runs[1].dense_ms});
  times.call = rounded(dense.a);
  times.dense_tile = rounded(host_rate ? runtime::tile_flops(dim) / *host_rate * 1e-6 : dense.b);
  for (size_t i = 0; i < kTimedPatterns.size(); ++i) {
    const PatternRun* of[2] = {&runs[0].patterns[i], &runs[1].patterns[i]};
    const Line estimate =
        fit_line({static_cast<double>(kHeads * runs[0].n), static_cast<double>(kHeads * runs[1].n)},
                 {kHeads * all[0], kHeads * all[1]}, {of[0]->estimate_ms, of[1]->estimate_ms});
    times.patterns[i] = {0, rounded(estimate.a), rounded(estimate.b)};
    // Antidiagonal sums select blocks as pooled ones do, at 15 % nearly all time is their
    // estimate's.
    if (of[0]->entry.estimate == runtime::BlockEstimate::antidiagonal) {
      times.patterns[i].tile = times.patterns[i - 1].tile;
      continue;
    }
    // Attention is what the estimate leaves of a plan's time.
    double xy = 0;
    double xx = 0;
    for (const PatternRun* run : of) {
      const double x = times.dense_tile * run->tiles / run->ms;
      xy += x * (run->ms - run->estimate_ms - times.call) / run->ms;
      xx += x * x;
    }
    if (xy <= 0)
      return fail(Code::device,
                  fmt::format("fit: {} took no longer than its estimate alone; is the machine busy "
                              "with something else?",
                              kTimedPatterns[i]));
    times.patterns[i].tile = rounded(xy / xx);
  }
  return times;
}

double predicted(const HeadDimTimes& times, int64_t n, const runtime::HeadEntry& entry,
                 double tiles) {
  const double head = times.head_ms({n, n, times.head_dim}, params_of(entry), tiles / kHeads);
  return times.call + kHeads * head;
}

// The shortest length from which on a plan at kShare with the dearest estimate is not slower than
// dense attention: timed, and past the longest of those as the profile has it.
Result<int64_t> dense_below(const Machine& machine, const HeadDimTimes& times,
                            std::optional<double> host_rate) {
  const runtime::HeadEntry dearest = entry_of(kTimedPatterns.size() - 1);
  int64_t below = 0;
  for (auto n = kShort.rbegin(); n != kShort.rend(); ++n) {
    LayerTensors layer(*n, *n, times.head_dim, machine.seed);
    MI_TRY(LayerPlan dense, LayerPlan::make(layer, {}, *machine.backend, machine.threads));
    MI_TRY(LayerPlan sparse,
           LayerPlan::with_share(layer, dearest, kShare, *machine.backend, machine.threads));
    Status failed;
    std::vector<std::function<void()>> contestants;
    for (LayerPlan* plan : {&dense, &sparse})
      contestants.emplace_back([&, plan] {
        if (Status s = plan->run(layer); !s) failed = s;
      });
    const auto timings = alternate(contestants, 4 * machine.rounds);
    MI_CHECK(failed);
    const auto length = static_cast<double>(*n);
    const double host_ms =
        2 * length * length * times.head_dim * kHeads / host_rate.value_or(1) * 1e-6;
    if (timings[1].median > (host_rate ? host_ms : timings[0].median)) break;
    below = *n;
  }
  if (below > 0) return below;
  for (below = 2 * kShort.back(); below < int64_t{1} << 24; below *= 2) {
    const double tiles = kHeads * dense_tiles(below);
    if (predicted(times, below, dearest, kShare * tiles) <= times.dense_tile * tiles) break;
  }
  return below;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name") && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "unknown";
}

struct Fitted {
  search::DeviceProfile profile;
  std::vector<LengthRun> unseen;  // [head dim]
};

Result<Fitted> fit_device(const BenchOptions& options) {
  MI_TRY(const Machine machine, machine_of(options));
  Fitted fitted;
  fitted.profile.cpu = cpu_name();
  fitted.profile.backend = machine.backend->name();
  fitted.profile.element = &machine.backend->f32() == machine.backend ? "f32" : "bf16";
  fitted.profile.threads = machine.threads;
  for (const int dim : std::set<int>(options.head_dims.begin(), options.head_dims.end())) {
    std::vector<LengthRun> runs;
    for (const int64_t n : kFitted) {
      MI_TRY(auto run, measure_patterns(machine, dim, n, {}));
      runs.push_back(std::move(run));
    }
    MI_TRY(auto times, fit(dim, std::span<const LengthRun, 2>(runs), options.dense));
    MI_TRY(times.dense_below, dense_below(machine, times, options.dense));
    std::vector<runtime::HeadEntry> entries;
    for (const PatternRun& run : runs.back().patterns)
      entries.push_back(moved(run.entry, static_cast<double>(kUnseen) / kFitted.back()));
    Machine brief = machine;  // the longest length takes most of the time
    brief.rounds = std::max(1, machine.rounds / 2);
    MI_TRY(auto unseen, measure_patterns(brief, dim, kUnseen, entries));
    fitted.unseen.push_back(std::move(unseen));
    fitted.profile.head_dims.push_back(times);
  }
  return fitted;
}

struct Row {
  std::string_view name;
  search::PatternTime time;
  double executed = 0;  // tiles of dense
  double ms = 0;
  double predicted = 0;
};

// Measured and predicted at the length that was not fitted; dense attention only where its times
// are ours.
std::vector<Row> rows_of(const HeadDimTimes& times, const LengthRun& run, bool host) {
  const double all = kHeads * dense_tiles(run.n);
  std::vector<Row> rows;
  if (!host) rows.push_back({"dense", {}, 1, run.dense_ms, times.call + times.dense_tile * all});
  for (size_t p = 0; p < kTimedPatterns.size(); ++p) {
    const PatternRun& at = run.patterns[p];
    rows.push_back({kTimedPatterns[p], times.patterns[p], at.tiles / all, at.ms,
                    predicted(times, run.n, at.entry, at.tiles)});
  }
  return rows;
}

std::string table(const Fitted& fitted, bool host) {
  const search::DeviceProfile& profile = fitted.profile;
  std::string out =
      fmt::format("{}, backend {}, {}, {} threads; fitted to {} and {} tokens\n", profile.cpu,
                  profile.backend, profile.element, profile.threads, kFitted[0], kFitted[1]);
  for (size_t i = 0; i < fitted.unseen.size(); ++i) {
    const HeadDimTimes& times = profile.head_dims[i];
    out += fmt::format(
        "\nhead dim {}: dense {:.0f} GFLOP/s ({:.4g} ms per tile), {:.3g} ms per call, dense below "
        "{} tokens\n{:<22}{:>8}{:>12}{:>13}{:>11}{:>13}{:>11}{:>9}\n",
        times.head_dim, runtime::tile_flops(times.head_dim) / times.dense_tile * 1e-6,
        times.dense_tile, times.call, times.dense_below, "pattern", "tile", "ns per key",
        "ns per tile", "executed", fmt::format("ms at {}", kUnseen), "predicted", "error");
    for (const Row& row : rows_of(times, fitted.unseen[i], host))
      out += fmt::format(
          "{:<22}{:>8.3f}{:>12.2f}{:>13.2f}{:>9.1f} %{:>13.1f}{:>11.1f}{:>+7.0f} %\n", row.name,
          row.time.tile, 1e6 * row.time.keys, 1e6 * row.time.rows, 100 * row.executed, row.ms,
          row.predicted, 100 * (row.predicted / row.ms - 1));
  }
  return out;
}

std::string json(const Fitted& fitted, bool host) {
  auto out = nlohmann::json::array();
  for (size_t i = 0; i < fitted.unseen.size(); ++i)
    for (const Row& row : rows_of(fitted.profile.head_dims[i], fitted.unseen[i], host))
      out.push_back({{"head_dim", fitted.profile.head_dims[i].head_dim},
                     {"name", row.name},
                     {"tokens", kUnseen},
                     {"executed", row.executed},
                     {"ms", row.ms},
                     {"predicted_ms", row.predicted}});
  return out.dump(2) + "\n";
}

}  // namespace

Status run_fit(const BenchOptions& options) {
  MI_CHECK(runtime::check_writable(options.output));
  MI_TRY(const Fitted fitted, fit_device(options));
  MI_CHECK(search::save_profile(fitted.profile, options.output));
  const bool host = options.dense.has_value();
  return print_result(options.json
                          ? json(fitted, host)
                          : table(fitted, host) + fmt::format("wrote {}\n", options.output));
}

}  // namespace mi::tools
