#include "tools/mi-bench/pattern_runs.h"

#include <algorithm>
#include <bit>

#include "tools/mi-bench/timing.h"

namespace mi::tools {

using search::kTimedPatterns;

void select_randomly(std::span<uint64_t> bits, int64_t block, int64_t run,
                     std::mt19937_64& engine) {
  std::fill(bits.begin(), bits.end(), 0);
  bits[static_cast<size_t>(block)] = ~uint64_t{0};
  const auto wanted = static_cast<int64_t>(kShare * static_cast<double>((block + 1) * 64));
  for (int64_t held = 64; held < wanted;) {
    const auto at = static_cast<int64_t>(engine() % static_cast<uint64_t>(block * 64 / run)) * run;
    const uint64_t mask = run == 64 ? ~uint64_t{0} : uint64_t{1} << (at % 64);
    uint64_t& word = bits[static_cast<size_t>(at / 64)];
    held += std::popcount(mask & ~word);
    word |= mask;
  }
}

Result<Machine> machine_of(const BenchOptions& options) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  return Machine{backend, threads_of(options), options.rounds, options.seed};
}

runtime::HeadEntry entry_of(size_t pattern) {
  runtime::HeadEntry entry;
  const std::string_view name = kTimedPatterns[pattern];
  entry.pattern = runtime::pattern_from_string(name).value_or(runtime::Pattern::block_sparse);
  if (name.starts_with("antidiagonal")) {
    entry.estimate = runtime::BlockEstimate::antidiagonal;
    entry.stride = name.ends_with("_8") ? 8 : 16;
  }
  return entry;
}

namespace {

// a_shape with the widest window of whole tiles that costs no more than kShare.
Result<LayerPlan> window_at_share(LayerTensors& layer, runtime::HeadEntry entry,
                                  const Machine& machine) {
  const auto with_tiles = [&](int64_t tiles) {
    entry.local[0] = static_cast<double>(std::max<int64_t>(1, tiles * kernels::kKeyTile));
    return LayerPlan::make(layer, entry, *machine.backend, machine.threads);
  };
  int64_t low = 0;
  int64_t high = runtime::tiles_for(layer.n_kv);
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    MI_TRY(LayerPlan plan, with_tiles(middle));
    MI_CHECK(plan.run(layer));
    if (plan.share() <= kShare) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return with_tiles(low);
}

}  // namespace

Result<LayerPlan> plan_at_share(LayerTensors& layer, size_t pattern, const Machine& machine) {
  const runtime::HeadEntry entry = entry_of(pattern);
  if (entry.pattern == runtime::Pattern::a_shape) return window_at_share(layer, entry, machine);
  return LayerPlan::with_share(layer, entry, kShare, *machine.backend, machine.threads);
}

Result<LengthRun> measure_patterns(const Machine& machine, int dim, int64_t n,
                                   std::span<const runtime::HeadEntry> entries) {
  LayerTensors layer(n, n, dim, machine.seed);
  MI_TRY(LayerPlan dense, LayerPlan::make(layer, {}, *machine.backend, machine.threads));
  std::vector<LayerPlan> plans;
  std::vector<LayerEstimate> estimates;
  plans.reserve(kTimedPatterns.size());
  estimates.reserve(kTimedPatterns.size());
  Status failed;
  const auto run = [&](LayerPlan& plan) {
    return [&failed, &plan, &layer] {
      if (Status s = plan.run(layer); !s) failed = s;
    };
  };
  std::vector<std::function<void()>> contestants = {run(dense)};
  for (size_t i = 0; i < kTimedPatterns.size(); ++i) {
    MI_TRY(LayerPlan plan,
           entries.empty() ? plan_at_share(layer, i, machine)
                           : LayerPlan::make(layer, entries[i], *machine.backend, machine.threads));
    plans.push_back(std::move(plan));
    contestants.push_back(run(plans.back()));
    estimates.emplace_back(layer, plans.back().entry(), *machine.backend, machine.threads).pack();
  }
  for (LayerEstimate& estimate : estimates)
    contestants.emplace_back([&estimate] { estimate.estimate(); });
  const auto timings = alternate(contestants, machine.rounds);
  MI_CHECK(failed);
  LengthRun result{n, timings[0].median, {}};
  for (size_t i = 0; i < plans.size(); ++i)
    result.patterns.push_back({plans[i].entry(), plans[i].share(),
                               static_cast<double>(plans[i].tiles()), timings[1 + i].median,
                               timings[1 + plans.size() + i].median});
  return result;
}

}  // namespace mi::tools
