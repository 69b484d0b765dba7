#include "libsearch/report/pareto_curve.h"

#include <algorithm>
#include <array>

namespace mi::search {
namespace {

constexpr std::array kLimits = {0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5};

}  // namespace

Result<std::vector<ParetoPoint>> pareto_curve(const ScoreReport& report, SearchOptions options) {
  std::vector<ParetoPoint> points;
  Status last;
  for (const double limit : kLimits) {
    options.limit = limit;
    const auto made = configure(report, options);
    if (!made) {
      last = made.error();
      continue;
    }
    const runtime::HeadConfig& config = made->config;
    points.push_back({.limit = limit,
                      .executed = dearest_share(config),
                      .loss = config.limit.loss,
                      .recall_mean = config.quality.recall_mean,
                      .recall_p05 = config.quality.recall_p05,
                      .recall_min = config.quality.recall_min});
  }
  if (points.empty()) return tl::make_unexpected(last);
  return points;
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
