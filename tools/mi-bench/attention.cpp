// Dense causal attention through the runtime's plan, bf16 and f32, on one thread and on all: beside
// the peak of the unit that it runs on, and its scaling beside that of the peak.
#include <memory>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "libruntime/plan.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/peaks.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

// All threads' gain over one, as a share of what the peak itself gains.
constexpr double kLeastScaling = 0.95;

template <class T>
struct Tensors {
  Tensor<T, 3> q, k, v, o;
  Tensors(int64_t n, int dim, uint64_t seed)
      : q({kHeads, n, dim}), k({kKvHeads, n, dim}), v({kKvHeads, n, dim}), o({kHeads, n, dim}) {
    fill_random(q, seed);
    fill_random(k, seed + 1);
    fill_random(v, seed + 2);
  }
};

struct Scaling {
  double attention = 0;  // rate on all threads over that on one
  double peak = 0;
  double ratio = 0;  // of the two: median over the rounds
};

struct Run {
  const char* element;
  int head_dim;
  int64_t tokens;
  int threads;
  const UnitInfo* unit;  // null: no peak to compare with
  std::function<Status()> attend;
  Timing ms;
  Timing peak_ms;  // of as much work per thread on any number of threads
  Peak peak;
  std::optional<Scaling> scaling;  // of all threads
  [[nodiscard]] double gflops() const {
    const auto n = static_cast<double>(tokens);
    return 2 * n * n * head_dim * kHeads / ms.median * 1e-6;
  }
};

// One plan per number of threads, over the same tensors.
template <class T>
Status add_runs(const BenchOptions& options, const kernels::Backend& backend, int dim, int64_t n,
                std::vector<Run>& runs) {
  constexpr bool kNarrow = std::is_same_v<T, bf16>;
  const auto tensors = std::make_shared<Tensors<T>>(n, dim, options.seed);
  std::vector<int> counts = {1};
  if (threads_of(options) > 1) counts.push_back(threads_of(options));
  for (const int threads : counts) {
    MI_TRY(auto made, runtime::Plan::make(
                          one_layer(kHeads, kKvHeads, dim, {}),
                          {.n_q = n,
                           .n_kv = n,
                           .heads = kHeads,
                           .kv_heads = kKvHeads,
                           .head_dim = dim,
                           .element = kNarrow ? runtime::Element::bf16 : runtime::Element::f32},
                          backend, threads));
    const auto plan = std::make_shared<runtime::Plan>(std::move(made));
    const auto workspace = std::make_shared<AlignedBuffer<std::byte>>(plan->workspace_bytes());
    Run run{kNarrow ? "bf16" : "f32",
            dim,
            n,
            threads,
            unit_under(backend, kNarrow),
            {},
            {},
            {},
            {},
            {}};
    run.attend = [tensors, plan, workspace] {
      const Tensors<T>& in = *tensors;
      runtime::Unspent unspent;
      return plan->run(0, in.q.view(), in.k.view(), in.v.view(), tensors->o.view(), {},
                       workspace->data(), {}, unspent);
    };
    runs.push_back(std::move(run));
  }
  return {};
}

Scaling scaling_of(const Run& one, const Run& all) {
  const std::vector<double> attention = ratios(one.ms, all.ms);
  std::vector<double> peak = ratios(one.peak_ms, all.peak_ms);
  std::vector<double> ratio(attention.size());
  for (size_t i = 0; i < ratio.size(); ++i) {
    peak[i] *= all.threads;
    ratio[i] = attention[i] / peak[i];
  }
  return {median(attention), median(peak), median(ratio)};
}

Result<std::vector<Run>> measure_shape(const BenchOptions& options, const kernels::Backend& backend,
                                       int dim, int64_t n) {
  std::vector<Run> runs;
  MI_CHECK(add_runs<bf16>(options, backend, dim, n, runs));
  MI_CHECK(add_runs<float>(options, backend, dim, n, runs));
  Status failed;
  std::vector<std::function<void()>> contestants;
  for (Run& run : runs) {
    contestants.emplace_back([&] {
      if (Status s = run.attend(); !s) failed = s;
    });
    contestants.emplace_back([&] {
      if (run.unit != nullptr) take_better(run.peak, measure_peak(*run.unit, run.threads));
    });
  }
  const auto timings = alternate(contestants, options.rounds);
  MI_CHECK(failed);
  for (size_t i = 0; i < runs.size(); ++i) {
    runs[i].ms = timings[2 * i];
    runs[i].peak_ms = timings[2 * i + 1];
    runs[i].attend = {};  // lets go of the memory
    if (runs[i].threads > 1 && runs[i].unit != nullptr)
      runs[i].scaling = scaling_of(runs[i - 1], runs[i]);
  }
  return runs;
}

Result<std::vector<Run>> measure(const BenchOptions& options) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  std::vector<Run> runs;
  for (const int dim : options.head_dims)
    for (const int64_t n : options.lengths) {
      MI_TRY(auto of_shape, measure_shape(options, *backend, dim, n));
      runs.insert(runs.end(), of_shape.begin(), of_shape.end());
    }
  return runs;
}

nlohmann::ordered_json json_of(const Run& r) {
  nlohmann::ordered_json row = {
      {"element", r.element}, {"head_dim", r.head_dim}, {"tokens", r.tokens},
      {"threads", r.threads}, {"ms", r.ms.median},      {"ms_least", r.ms.least},
      {"ms_most", r.ms.most}, {"gflops", r.gflops()},   {"roof_gflops", r.peak.gflops}};
  row["scaling"] = nullptr;
  if (r.scaling)
    row["scaling"] = {{"attention", r.scaling->attention},
                      {"roof", r.scaling->peak},
                      {"ratio", r.scaling->ratio}};
  return row;
}

std::string line_of(const Run& r) {
  std::string line =
      fmt::format("{:>5}{:>5}{:>8}{:>9}{:>11.1f}{:>11.1f}-{:<9.1f}{:>8.0f}", r.element, r.head_dim,
                  r.tokens, r.threads, r.ms.median, r.ms.least, r.ms.most, r.gflops());
  if (r.unit != nullptr)
    line += fmt::format("{:>9.0f}{:>8.1f} %", r.peak.gflops, 100 * r.gflops() / r.peak.gflops);
  if (r.scaling)
    line += fmt::format("{:>9.2f} /{:>5.2f} ={:>5.2f}{}", r.scaling->attention, r.scaling->peak,
                        r.scaling->ratio, r.scaling->ratio < kLeastScaling ? " !" : "");
  return line + "\n";
}

}  // namespace

int run_attention(const BenchOptions& options) {
  const auto runs = measure(options);
  if (!runs) return report(kBench, runs.error());
  auto json = nlohmann::ordered_json::array();
  std::string text = fmt::format(
      "dense causal, {} query and {} KV heads, useful FLOP 4 N N d / 2 per head; scaling beside "
      "the roof's, ! under {}\n{:>5}{:>5}{:>8}{:>9}{:>11}{:>17}{:>12}{:>9}{:>10}{:>24}\n",
      kHeads, kKvHeads, kLeastScaling, "", "d", "tokens", "threads", "ms", "range", "GFLOP/s",
      "roof", "share", "scaling / roof's");
  for (const Run& r : *runs) {
    json.push_back(json_of(r));
    text += line_of(r);
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
