#include "libsearch/report/pareto_curve.h"

#include <algorithm>
#include <limits>
#include <optional>

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

namespace {

bool is_published(runtime::Pattern pattern) {
  using enum runtime::Pattern;
  return pattern == a_shape || pattern == vertical_slash || pattern == block_sparse;
}

// Of a head: a candidate for each length, of one family; none if no family keeps the limit.
std::vector<size_t> published_choice(const AllocationProblem& mass, const CandidateSpace& space,
                                     size_t head, double limit) {
  std::vector<size_t> best;
  double least = std::numeric_limits<double>::infinity();
  for (size_t family = 0; family < space.families.size(); ++family) {
    if (!is_published(space.families[family].params.pattern)) continue;
    std::vector<size_t> chosen;
    double loss = 0;
    for (const auto& heads : mass.choices) {
      const std::vector<Choice>& choices = heads[head];
      std::optional<size_t> at;
      for (size_t c = 0; c < choices.size(); ++c)
        if (mass.families[c] == family && within(choices[c].dearest(), limit) &&
            (!at || choices[c].loss < choices[*at].loss))
          at = c;
      if (!at) break;
      chosen.push_back(*at);
      loss += choices[*at].loss;
    }
    if (chosen.size() < mass.lengths() || loss >= least) continue;
    least = loss;
    best = chosen;
  }
  return best;
}

// Of the worst head on its worst sample; chosen [length][head].
double least_recall(const ScoreTable& table, const std::vector<std::vector<size_t>>& chosen) {
  const std::vector<int64_t> lengths = lengths_of(table);
  double least = 1;
  for (const SampleScores& sample : table.samples) {
    const auto t = std::lower_bound(lengths.begin(), lengths.end(), sample.length);
    const std::vector<size_t>& own = chosen[static_cast<size_t>(t - lengths.begin())];
    size_t head = 0;
    for (const auto& layer : sample.layers)
      for (const auto& scores : layer) least = std::min(least, scores[own[head++]].recall);
  }
  return least;
}

}  // namespace

std::vector<ParetoPoint> published_curve(const ScoreReport& report, Objective objective) {
  const AllocationProblem mass = make_problem(report.table, report.space, Objective::mass);
  const AllocationProblem judge = make_problem(report.table, report.space, objective);
  const auto lengths = static_cast<double>(mass.lengths());
  const auto heads = static_cast<double>(mass.heads());
  std::vector<ParetoPoint> points;
  for (const double limit : kParetoLimits) {
    std::vector<std::vector<size_t>> chosen(mass.lengths());
    ParetoPoint point{.limit = limit, .recall_mean = 1};
    std::vector<double> recalls;
    for (size_t head = 0; head < mass.heads(); ++head) {
      const std::vector<size_t> choice = published_choice(mass, report.space, head, limit);
      if (choice.empty()) break;
      double lost = 0;
      for (size_t t = 0; t < choice.size(); ++t) {
        chosen[t].push_back(choice[t]);
        lost += mass.choices[t][head][choice[t]].loss / lengths;
        point.loss += judge.choices[t][head][choice[t]].loss / lengths;
      }
      recalls.push_back(1 - lost);
      point.recall_mean -= lost / heads;
    }
    if (recalls.size() < mass.heads()) continue;
    std::sort(recalls.begin(), recalls.end());
    point.recall_p05 = recalls[(recalls.size() - 1) / 20];
    point.recall_min = least_recall(report.table, chosen);
    for (size_t t = 0; t < mass.lengths(); ++t)
      point.executed = std::max(point.executed, dearest_cost(mass, t, chosen[t]));
    points.push_back(point);
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
