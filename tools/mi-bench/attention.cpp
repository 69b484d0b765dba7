// Dense causal attention through the runtime's plan: bf16 and f32, beside the machine's peak.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "libruntime/plan.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

template <class T>
struct Problem {
  Tensor<T, 3> q, k, v, o;
  runtime::Plan plan;
  AlignedBuffer<std::byte> workspace;
  Problem(runtime::Plan made, int64_t n, int dim, uint64_t seed)
      : q({kHeads, n, dim}),
        k({kKvHeads, n, dim}),
        v({kKvHeads, n, dim}),
        o({kHeads, n, dim}),
        plan(std::move(made)),
        workspace(plan.workspace_bytes()) {
    fill_random(q, seed);
    fill_random(k, seed + 1);
    fill_random(v, seed + 2);
  }
  [[nodiscard]] Status run() {
    runtime::Unspent unspent;
    return plan.run(0, std::as_const(q).view(), std::as_const(k).view(), std::as_const(v).view(),
                    o.view(), {}, workspace.data(), {}, unspent);
  }
};

struct Row {
  const char* element;
  int head_dim;
  int64_t tokens;
  Timing ms;
  double gflops;
  double roof;
};

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  const Roof roof = measure_peaks(threads, options.rounds);
  const double narrow_roof = backend->name() == "cpu_amx"           ? roof.amx
                             : backend->name() == "cpu_avx512_bf16" ? roof.dot
                                                                    : roof.fma;
  std::vector<Row> rows;
  for (const int dim : {64, 128}) {
    for (const int64_t n : options.lengths) {
      runtime::PlanShape shape{
          .n_q = n, .n_kv = n, .heads = kHeads, .kv_heads = kKvHeads, .head_dim = dim};
      MI_TRY(auto wide_plan,
             runtime::Plan::make(one_layer(kHeads, kKvHeads, dim, {}), shape, *backend, threads));
      shape.element = runtime::Element::bf16;
      MI_TRY(auto plan,
             runtime::Plan::make(one_layer(kHeads, kKvHeads, dim, {}), shape, *backend, threads));
      Problem<bf16> narrow(std::move(plan), n, dim, options.seed);
      Problem<float> wide(std::move(wide_plan), n, dim, options.seed);
      Status failed;
      const auto timings = alternate({[&] {
                                        if (Status s = narrow.run(); !s) failed = s;
                                      },
                                      [&] {
                                        if (Status s = wide.run(); !s) failed = s;
                                      }},
                                     options.rounds);
      MI_CHECK(failed);
      const double flops = 4.0 * static_cast<double>(n) * static_cast<double>(n) / 2 * dim * kHeads;
      rows.push_back({"bf16", dim, n, timings[0], flops / timings[0].median * 1e-6, narrow_roof});
      rows.push_back({"f32", dim, n, timings[1], flops / timings[1].median * 1e-6, roof.fma});
    }
  }
  return rows;
}

int run_attention(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format(
      "dense causal, {} query and {} KV heads, useful FLOP 4 N N d / 2 per head\n"
      "{:>5} {:>4} {:>7} {:>9} {:>19} {:>9} {:>9} {:>7}\n",
      kHeads, kKvHeads, "", "d", "tokens", "ms", "range", "GFLOP/s", "roof", "share");
  for (const Row& r : *rows) {
    json.push_back({{"element", r.element},
                    {"head_dim", r.head_dim},
                    {"tokens", r.tokens},
                    {"ms", r.ms.median},
                    {"ms_least", r.ms.least},
                    {"ms_most", r.ms.most},
                    {"gflops", r.gflops},
                    {"roof_gflops", r.roof}});
    text +=
        fmt::format("{:>5} {:>4} {:>7} {:>9.1f} {:>9.1f}-{:<9.1f} {:>9.0f} {:>9.0f} {:>6.1f}%\n",
                    r.element, r.head_dim, r.tokens, r.ms.median, r.ms.least, r.ms.most, r.gflops,
                    r.roof, r.roof > 0 ? 100 * r.gflops / r.roof : 0);
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace

void add_attention(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "attention", "Dense causal attention in bf16 and f32 beside the machine's peak");
  add_timing(*command, options);
  add_lengths(*command, options, {8192, 32768});
  command->callback([&] { run = [&] { return run_attention(options); }; });
}

}  // namespace mi::tools
