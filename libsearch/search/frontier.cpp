#include "libsearch/search/frontier.h"

#include <algorithm>
#include <limits>

namespace mi::search {
namespace {

struct Contestant {
  double limit = 0;
  std::string method;
  std::optional<runtime::HeadConfig> config;
};

SampleVerdict mean_of(std::span<const SampleVerdict> verdicts) {
  SampleVerdict mean;
  mean.length = verdicts.front().length;
  const double weight = 1 / static_cast<double>(verdicts.size());
  mean.recall_min = 1;
  for (const SampleVerdict& v : verdicts) {
    mean.share += v.share * weight;
    mean.recall += v.recall * weight;
    mean.lost_square += v.lost_square * weight;
    mean.recall_min = std::min(mean.recall_min, v.recall_min);
    mean.output_error += v.output_error * weight;
    mean.kl += v.kl * weight;
    mean.top1 += v.top1 * weight;
    mean.dense_nll += v.dense_nll * weight;
    mean.sparse_nll += v.sparse_nll * weight;
    mean.capped_heads += v.capped_heads;
    mean.seconds_dense += v.seconds_dense * weight;
    mean.seconds_sparse += v.seconds_sparse * weight;
  }
  return mean;
}

// The published method has no caps.
runtime::HeadConfig published_config(const ScoreReport& report, const Allocation& allocation,
                                     const SearchOptions& options) {
  runtime::HeadConfig config = to_config(report, allocation, options);
  for (auto& layer : config.layers)
    for (auto& head : layer) head.share.clear();
  return config;
}

}  // namespace

std::optional<Allocation> allocate_published(const AllocationProblem& problem,
                                             const CandidateSpace& space, double limit) {
  const size_t families = space.families.size();
  const size_t factors = space.families.front().values.size();
  std::optional<Allocation> best;
  for (size_t factor = 0; factor < factors; ++factor) {
    Allocation allocation;
    auto& chosen = allocation.chosen.emplace_back();
    for (const auto& head : problem.choices[0]) {
      size_t winner = factor;
      for (size_t f = 1; f < families; ++f)
        if (head[f * factors + factor].loss < head[winner].loss) winner = f * factors + factor;
      chosen.push_back(winner);
      allocation.loss += head[winner].loss;
    }
    const double cost = dearest_cost(problem, 0, chosen);
    allocation.cost = {cost};
    if (cost <= limit && (!best || cost > best->cost[0])) best = allocation;
  }
  return best;
}

std::optional<Allocation> allocate_single(const AllocationProblem& problem, double limit) {
  std::optional<Allocation> best;
  for (size_t c = 0; c + 1 < problem.families.size(); ++c) {
    const std::vector<size_t> chosen(problem.heads(), c);
    const double cost = dearest_cost(problem, 0, chosen);
    double loss = 0;
    for (const auto& head : problem.choices[0]) loss += head[c].loss;
    if (cost > limit || (best && loss >= best->loss)) continue;
    best.emplace();
    best->chosen = {chosen};
    best->cost = {cost};
    best->loss = loss;
  }
  return best;
}

Result<std::vector<FrontierEntry>> frontier(const Model& model, std::span<const Sample> calibration,
                                            std::span<const Sample> held_out,
                                            std::span<const double> limits,
                                            std::span<const Objective> objectives,
                                            const SearchOptions& options,
                                            const ProgressFn& progress) {
  const int64_t length = calibration.front().length();
  std::vector<Contestant> contestants;
  {
    ScoreReport report = empty_report(model.spec(), calibration, held_out, options);
    report.extras = options.compute.extras;
    MI_CHECK(score(model, calibration, options.compute, progress, {}, report));
    for (const Objective objective : objectives) {
      const AllocationProblem problem = make_problem(report.table, report.space, objective);
      for (const double limit : limits) {
        SearchOptions own = options;
        own.limit = limit;
        own.objective = objective;
        Contestant& contestant = contestants.emplace_back();
        contestant.limit = limit;
        contestant.method = "mi, " + std::string(to_string(objective));
        if (const auto allocation = allocate(problem, own))
          contestant.config = to_config(report, *allocation, own);
      }
    }
  }
  {
    SearchOptions published = options;
    published.space = published_candidates(length);
    published.compute.last = 0;  // nor has it dense last rows
    ScoreReport report = empty_report(model.spec(), calibration, held_out, published);
    MI_CHECK(score(model, calibration, published.compute, progress, {}, report));
    const AllocationProblem problem = make_problem(report.table, report.space, Objective::mass);
    for (const double limit : limits) {
      published.limit = limit;
      const auto add = [&](const char* method, const std::optional<Allocation>& allocation) {
        Contestant& contestant = contestants.emplace_back();
        contestant.limit = limit;
        contestant.method = method;
        if (allocation) contestant.config = published_config(report, *allocation, published);
      };
      add("published method", allocate_published(problem, published.space, limit));
      add("best single pattern", allocate_single(problem, limit));
    }
  }

  std::vector<std::vector<SampleVerdict>> verdicts(contestants.size());
  size_t done = 0;
  for (const Sample& sample : held_out) {
    MI_TRY(const DenseReference dense, dense_reference(model, sample, options.compute, {}));
    for (size_t i = 0; i < contestants.size(); ++i, ++done) {
      if (progress)
        progress("certify", static_cast<double>(done) /
                                static_cast<double>(contestants.size() * held_out.size()));
      if (!contestants[i].config) continue;
      MI_TRY(const SampleVerdict verdict,
             verify_sample(model, *contestants[i].config, sample, dense, options.compute, {}));
      verdicts[i].push_back(verdict);
    }
  }
  std::vector<FrontierEntry> entries;
  for (size_t i = 0; i < contestants.size(); ++i) {
    FrontierEntry& entry = entries.emplace_back();
    entry.length = length;
    entry.limit = contestants[i].limit;
    entry.method = contestants[i].method;
    if (!verdicts[i].empty()) entry.verdict = mean_of(verdicts[i]);
  }
  std::stable_sort(
      entries.begin(), entries.end(),
      [](const FrontierEntry& a, const FrontierEntry& b) { return a.limit < b.limit; });
  return entries;
}

}  // namespace mi::search
