// What the patterns' estimates take alone: keys prepared, mass of every key for every row block,
// keys selected.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libruntime/resolve.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/pattern_runs.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

struct Row {
  std::string_view name;
  int head_dim;
  int64_t tokens;
  double executed;  // share of dense of the whole plan
  double ms;
  double gflops;  // of the estimate's own FLOP, which selecting is not part of
  double part;    // of the plan's time
  double gkeys;   // keys of row blocks judged per nanosecond
};

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const Machine machine, machine_of(options));
  std::vector<Row> rows;
  for (const int dim : options.head_dims) {
    for (const int64_t n : options.lengths) {
      MI_TRY(const LengthRun run, measure_patterns(machine, dim, n, {}));
      const runtime::CallShape call{n, n, dim};
      double keys = 0;
      for (int64_t m = 0; m < call.row_blocks(); ++m) keys += static_cast<double>(call.keys_end(m));
      for (size_t i = 0; i < run.patterns.size(); ++i) {
        const PatternRun& of = run.patterns[i];
        MI_TRY(const auto head, runtime::resolve_head(of.entry, {}, n));
        const double flops = kHeads * runtime::make_estimator(head.params)->flops(call);
        rows.push_back({search::kTimedPatterns[i], dim, n, of.share, of.estimate_ms,
                        flops / of.estimate_ms * 1e-6, of.estimate_ms / of.ms,
                        kHeads * keys / of.estimate_ms * 1e-6});
      }
    }
  }
  return rows;
}

}  // namespace

int run_estimate(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format(
      "{} heads, estimate and selection alone\n{:<22}{:>4}{:>8}{:>10}{:>10}{:>10}{:>10}{:>13}\n",
      kHeads, "", "d", "tokens", "executed", "ms", "GFLOP/s", "Gkey/s", "of its time");
  for (const Row& r : *rows) {
    json.push_back({{"name", r.name},
                    {"head_dim", r.head_dim},
                    {"tokens", r.tokens},
                    {"executed", r.executed},
                    {"ms", r.ms},
                    {"gflops", r.gflops},
                    {"gkeys", r.gkeys},
                    {"part", r.part}});
    text +=
        fmt::format("{:<22}{:>4}{:>8}{:>8.1f} %{:>10.2f}{:>10.0f}{:>10.2f}{:>11.1f} %\n", r.name,
                    r.head_dim, r.tokens, 100 * r.executed, r.ms, r.gflops, r.gkeys, 100 * r.part);
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
