// Whether a plan is ever slower than it need be: at every length, against dense attention and
// against the same plan made to run sparse.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/pattern_runs.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

// Above these a row is flagged: what two runs of one plan differ by on an idle machine.
constexpr double kOfDense = 1.03;
constexpr double kOfBest = 1.05;

struct Row {
  std::string_view name;
  int head_dim;
  int64_t tokens;
  double executed;  // by the sparse plan, share of dense
  double dense_ms, plan_ms, sparse_ms;
  double of_dense;  // medians over the rounds of plan / dense
  double of_best;   // and of plan / the faster of dense and sparse
  [[nodiscard]] bool flagged() const { return of_dense > kOfDense || of_best > kOfBest; }
};

// Short calls are repeated until they take 2 ms, and get more rounds: a timer's tick and a woken
// thread weigh on them.
int repeats_for(LayerPlan& plan, LayerTensors& layer) {
  const Timing once = alternate({[&] { (void)plan.run(layer); }}, 3)[0];
  return static_cast<int>(std::clamp(std::ceil(2 / once.median), 1.0, 1000.0));
}

Result<Row> measure_one(const Machine& machine, int64_t dense_below, LayerTensors& layer,
                        size_t pattern) {
  const int64_t n = layer.n_kv;
  MI_TRY(LayerPlan dense, LayerPlan::make(layer, {}, *machine.backend, machine.threads));
  MI_TRY(LayerPlan sparse, plan_at_share(layer, pattern, machine));
  MI_TRY(LayerPlan plan,
         LayerPlan::make(layer, sparse.entry(), *machine.backend, machine.threads, dense_below));
  const int repeats = repeats_for(dense, layer);
  Status failed;
  std::vector<std::function<void()>> contestants;
  for (LayerPlan* each : {&dense, &plan, &sparse})
    contestants.emplace_back([&, each] {
      for (int i = 0; i < repeats; ++i)
        if (Status s = each->run(layer); !s) failed = s;
    });
  const auto timings = alternate(contestants, n <= 4096 ? 4 * machine.rounds : machine.rounds);
  MI_CHECK(failed);
  std::vector<double> of_dense = ratios(timings[1], timings[0]);
  std::vector<double> of_best = ratios(timings[1], timings[2]);
  for (size_t i = 0; i < of_best.size(); ++i) of_best[i] = std::max(of_best[i], of_dense[i]);
  return Row{search::kTimedPatterns[pattern],
             layer.head_dim,
             n,
             sparse.share(),
             timings[0].median / repeats,
             timings[1].median / repeats,
             timings[2].median / repeats,
             median(std::move(of_dense)),
             median(std::move(of_best))};
}

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const Machine machine, machine_of(options));
  std::vector<Row> rows;
  for (const int dim : options.head_dims) {
    for (const int64_t n : options.lengths) {
      LayerTensors layer(n, n, dim, machine.seed);
      for (size_t i = 0; i < search::kTimedPatterns.size(); ++i) {
        MI_TRY(const Row row, measure_one(machine, options.dense_below, layer, i));
        rows.push_back(row);
      }
    }
  }
  return rows;
}

}  // namespace

int run_sweep(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format(
      "bf16, {} query and {} KV heads, dense below {} tokens; ! above {} of dense or {} of the "
      "faster\n{:<22}{:>4}{:>8}{:>10}{:>11}{:>11}{:>11}{:>10}{:>10}\n",
      kHeads, kKvHeads, options.dense_below, kOfDense, kOfBest, "", "d", "tokens", "executed",
      "dense ms", "plan ms", "sparse ms", "of dense", "of best");
  for (const Row& r : *rows) {
    json.push_back({{"name", r.name},
                    {"head_dim", r.head_dim},
                    {"tokens", r.tokens},
                    {"executed", r.executed},
                    {"dense_ms", r.dense_ms},
                    {"plan_ms", r.plan_ms},
                    {"sparse_ms", r.sparse_ms},
                    {"of_dense", r.of_dense},
                    {"of_best", r.of_best},
                    {"flagged", r.flagged()}});
    text +=
        fmt::format("{:<22}{:>4}{:>8}{:>8.1f} %{:>11.3f}{:>11.3f}{:>11.3f}{:>10.3f}{:>10.3f}{}\n",
                    r.name, r.head_dim, r.tokens, 100 * r.executed, r.dense_ms, r.plan_ms,
                    r.sparse_ms, r.of_dense, r.of_best, r.flagged() ? " !" : "");
  }
  text += fmt::format("{} of {} rows flagged\n",
                      std::count_if(rows->begin(), rows->end(), std::mem_fn(&Row::flagged)),
                      rows->size());
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
