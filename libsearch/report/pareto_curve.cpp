#include "libsearch/report/pareto_curve.h"

#include <algorithm>

namespace mi::search {
Result<std::vector<ParetoPoint>> pareto_curve(const ScoreReport& report, SearchOptions options) {
  std::vector<ParetoPoint> points;
  const double least = least_budget(report, options);
  for (const double limit : kParetoLimits) {
    if (!within(least, limit)) continue;
    options.limit = limit;
    MI_TRY(const Configured made, configure(report, options));
    const runtime::HeadConfig& config = made.config;
    points.push_back({.limit = limit,
                      .executed = dearest_share(config),
                      .loss = config.limit.loss,
                      .recall_mean = config.quality.recall_mean,
                      .recall_p05 = config.quality.recall_p05,
                      .recall_min = config.quality.recall_min});
  }
  return points;
}

double least_budget(const ScoreReport& report, const SearchOptions& options) {
  const AllocationProblem problem = make_problem(report.table, report.space, options.objective);
  return options.allocation == AllocationMode::global ? least_limit_global(problem)
                                                      : least_limit_per_head(problem);
}

double dearest_share(const runtime::HeadConfig& config) {
  double dearest = 0;
  for (const auto& [length, share] : config.limit.achieved) dearest = std::max(dearest, share);
  return dearest;
}

Objective objective_of(const runtime::HeadConfig& config) {
  return objective_from_string(config.limit.objective).value_or(Objective::error);
}

}  // namespace mi::search
