// From scores and a limit to a head-config.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "libsearch/search/gates.h"
#include "libsearch/search/rounding.h"
#include "libsearch/search/search.h"

namespace mi::search {
namespace {

// Share caps are rounded up, so that they never bind on the samples they come from.
double cap(double share) {
  return std::min(1.0, decimals(std::ceil(share * 1e6) / 1e6, 6));
}

// Prompts that dense attention runs as fast, without a device's own measure: on Sapphire Rapids in
// bf16 a 15 % plan of stripe+vertical_slash breaks even with dense attention near 600 tokens; the
// runtime knows what the others do in proportion (resolve_head).
constexpr int64_t kDenseBelow = 640;

using Shares = std::vector<std::vector<double>>;  // [layer][head]

// Scores of the candidates that an allocation chose.
struct ChosenScores {
  const ScoreTable& table;
  const Allocation& allocation;
  std::vector<int64_t> lengths;
  size_t dense = 0;  // the dense candidate

  [[nodiscard]] const CandidateScore& at(const SampleScores& sample, size_t layer,
                                         size_t head) const {
    const auto t = static_cast<size_t>(
        std::lower_bound(lengths.begin(), lengths.end(), sample.length) - lengths.begin());
    const size_t heads = sample.layers[layer].size();
    return sample.layers[layer][head][allocation.chosen[t][layer * heads + head]];
  }

  // Share caps at a length. Layers pass on what they do not spend, so the caps of the first layers
  // together are what the dearest sample spends there, and those of all layers what it spends in
  // all. A cap for each head's own dearest sample would waste 7 % of SmolLM2's limit at 8192
  // tokens. Within a layer the caps are pooled; each head's part follows its dearest sample.
  [[nodiscard]] Shares caps(size_t t) const {
    Shares shares;
    std::vector<double> spent(table.samples.size(), 0);  // by each sample's layers so far
    double granted = 0;
    for (size_t layer = 0; layer < table.samples.front().layers.size(); ++layer) {
      const size_t heads = table.samples.front().layers[layer].size();
      auto& share = shares.emplace_back(heads, 0);
      for (size_t s = 0; s < table.samples.size(); ++s) {
        if (table.samples[s].length != lengths[t]) continue;
        for (size_t head = 0; head < heads; ++head) {
          const size_t candidate = allocation.chosen[t][layer * heads + head];
          if (candidate == dense) continue;
          const double cost = at(table.samples[s], layer, head).share;
          spent[s] += cost;
          share[head] = std::max(share[head], cost);
        }
      }
      const double most = *std::max_element(spent.begin(), spent.end());
      double sum = 0;
      for (const double cost : share) sum += cost;
      for (double& cost : share) cost *= (most - granted) / std::max(sum, 1e-30);
      granted = most;
    }
    return shares;
  }
};

void add_quality(runtime::HeadConfig& config, const ChosenScores& scores) {
  std::vector<double> recalls;
  double last = 0;
  double lowest = 1;
  double count = 0;
  for (const auto& layer : config.layers)
    for (const auto& head : layer) recalls.push_back(head.recall);
  for (const SampleScores& sample : scores.table.samples) {
    for (size_t layer = 0; layer < sample.layers.size(); ++layer) {
      for (size_t head = 0; head < sample.layers[layer].size(); ++head) {
        const CandidateScore& score = scores.at(sample, layer, head);
        last += score.recall_last;
        lowest = std::min(lowest, score.recall);
        ++count;
      }
    }
  }
  double mean = 0;
  for (double recall : recalls) mean += recall / static_cast<double>(recalls.size());
  std::sort(recalls.begin(), recalls.end());
  config.quality.recall_mean = decimals(mean, 4);
  config.quality.recall_p05 = recalls[(recalls.size() - 1) / 20];
  config.quality.recall_min = decimals(lowest, 4);
  config.quality.recall_last = decimals(last / count, 4);
}

}  // namespace

// The profile's times for the model; null without a profile.
Result<const HeadDimTimes*> times_of(const runtime::HeadConfig::Model& model,
                                     const SearchOptions& options) {
  if (!options.device) {
    if (options.limit_ms)
      return fail(Code::invalid_argument,
                  "budget: a time needs the profile of a device (--device, made by mi-bench fit)");
    return nullptr;
  }
  if (const HeadDimTimes* times = find_times(*options.device, model.head_dim)) return times;
  return fail(Code::invalid_argument,
              fmt::format("device profile: it has no head_dim {}, which {} has (mi-bench fit "
                          "--head-dim {})",
                          model.head_dim, model.name, model.head_dim));
}

Result<Allocation> allocate(const AllocationProblem& problem, const SearchOptions& options) {
  const std::optional<double> limit =
      options.limit_ms ? *options.limit_ms / problem.dense_ms.back() : options.limit;
  if (options.min_recall) {
    Allocation allocation = allocate_min_recall(problem, *options.min_recall);
    if (allocation.cost.empty())
      return fail(Code::unsupported, "recall: a head has no candidate whose recall is a number");
    const double least = least_limit(problem, allocation);
    if (limit && !within(least, *limit))
      return fail(Code::invalid_argument,
                  fmt::format("budget: {} does not give every head a p05 recall of {}; the "
                              "smallest budget that does is {}",
                              budget_text(problem, *limit), *options.min_recall,
                              budget_enough(problem, least)));
    return allocation;
  }
  if (!limit)
    return fail(Code::invalid_argument, "budget: missing, expected a share of dense such as 15%");
  return options.allocation == AllocationMode::global ? allocate_global(problem, *limit)
                                                      : allocate_per_head(problem, *limit);
}

runtime::HeadConfig to_config(const ScoreReport& report, const Allocation& allocation,
                              const SearchOptions& options) {
  const ScoreTable& table = report.table;
  const ChosenScores scores{table, allocation, lengths_of(table), report.space.candidates() - 1};
  runtime::HeadConfig config;
  config.model = report.model;
  config.producer = {.tool = "mi-search " MI_VERSION,
                     .backend = report.backend,
                     .options = options.description,
                     .seed = report.seed};
  if (!report.options.empty()) config.producer.options += ' ' + report.options;
  config.calibration.lengths = scores.lengths;
  config.calibration.samples = report.samples;
  config.calibration.held_out = report.held_out;
  // A time as what it lets the dearest sample execute: the runtime counts in shares.
  config.limit.share = options.limit.value_or(1);
  if (options.limit_ms)
    config.limit.share = cap(*std::max_element(allocation.cost.begin(), allocation.cost.end()));
  config.limit.objective = options.min_recall ? "cost" : std::string(to_string(options.objective));
  config.limit.allocation =
      options.min_recall ? "min-recall" : std::string(to_string(options.allocation));
  config.limit.gap = significant(allocation.gap, 3);
  if (config.limit.allocation == "global") {
    config.limit.loss = significant(allocation.loss, 6);
    config.limit.gap = std::min(config.limit.gap, config.limit.loss);  // also as rounded
  }
  for (size_t t = 0; t < scores.lengths.size(); ++t)
    config.limit.achieved[scores.lengths[t]] = decimals(allocation.cost[t], 6);
  config.kernel.last = report.last;
  const HeadDimTimes* times =
      options.device ? find_times(*options.device, report.model.head_dim) : nullptr;
  // What was calibrated and certified runs as it was.
  config.kernel.dense_below =
      std::min(times != nullptr ? times->dense_below : kDenseBelow, scores.lengths.front());
  std::vector<Shares> shares;
  for (size_t t = 0; t < scores.lengths.size(); ++t) shares.push_back(scores.caps(t));

  for (int layer = 0; layer < report.model.layers; ++layer) {
    auto& heads = config.layers.emplace_back();
    for (int head = 0; head < report.model.heads; ++head) {
      const auto l = static_cast<size_t>(layer);
      const auto h = static_cast<size_t>(head);
      const size_t flat = l * static_cast<size_t>(report.model.heads) + h;
      const size_t family = candidate_id(report.space, allocation.chosen[0][flat]).family;
      runtime::HeadEntry& entry = heads.emplace_back();
      double recall = 0;
      for (const SampleScores& sample : table.samples)
        recall += scores.at(sample, l, h).recall / static_cast<double>(table.samples.size());
      if (family < report.space.families.size()) {
        const Family& chosen = report.space.families[family];
        entry = chosen.entry();
        for (size_t t = 0; t < scores.lengths.size(); ++t) {
          chosen.set_values(entry, candidate_id(report.space, allocation.chosen[t][flat]).index,
                            scores.lengths[t]);
          entry.share[scores.lengths[t]] = cap(shares[t][l][h]);
        }
      }
      entry.recall = decimals(recall, 4);
    }
  }
  add_quality(config, scores);
  return config;
}

Result<Configured> configure(const ScoreReport& report, const SearchOptions& options) {
  MI_TRY(const HeadDimTimes* times, times_of(report.model, options));
  const ScoreTable& table = report.table;
  const AllocationProblem problem = make_problem(table, report.space, options.objective);
  AllocationProblem timed;
  if (times != nullptr) timed = in_time(problem, table, report.space, *times);
  MI_TRY(Allocation allocation, allocate(options.limit_ms ? timed : problem, options));
  Configured result;
  const auto lengths = lengths_of(table);
  for (size_t t = 0; t < lengths.size(); ++t) {
    allocation.cost[t] = dearest_cost(problem, t, allocation.chosen[t]);
    if (times == nullptr) continue;
    const double dense_ms = timed.dense_ms[t];
    result.predicted.push_back(
        {lengths[t], dense_ms * dearest_cost(timed, t, allocation.chosen[t]), dense_ms});
  }
  result.config = to_config(report, allocation, options);
  result.config.warnings = report.warnings;
  const auto of_heads = head_warnings(table, allocation);
  result.config.warnings.insert(result.config.warnings.end(), of_heads.begin(), of_heads.end());
  MI_CHECK(check_warnings(result.config.warnings, options.strict));
  return result;
}

}  // namespace mi::search
