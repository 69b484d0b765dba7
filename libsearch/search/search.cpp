#include "libsearch/search/search.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "libsearch/search/gates.h"
#include "libsearch/search/planned_attention.h"

namespace mi::search {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A short decimal of a value computed to that precision: the file shows no digits that mean
// nothing.
double decimals(double value, int digits) {
  return std::stod(fmt::format("{:.{}f}", value, digits));
}
double significant(double value, int digits) {
  return std::stod(fmt::format("{:.{}g}", value, digits));
}
// Share caps are rounded up, so that they never bind on the samples they come from.
double cap(double share) {
  return std::min(1.0, decimals(std::ceil(share * 1e6) / 1e6, 6));
}

// Prompts that dense attention runs as fast, without a device's own measure: on Sapphire Rapids in
// bf16 a 15 % plan of stripe+vertical_slash, the dearest estimate, breaks even with dense attention
// near 600 tokens and one of stripe below 300.
constexpr int64_t kDenseBelow = 640;

std::vector<runtime::SampleNote> notes_of(std::span<const Sample> samples) {
  std::vector<runtime::SampleNote> notes;
  for (const Sample& sample : samples)
    notes.push_back({sample.source, sample.length(), sample.sha256});
  return notes;
}

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

std::string_view to_string(AllocationMode mode) {
  return mode == AllocationMode::global ? "global" : "per-head";
}

namespace {

Failure wrong_budget(std::string_view text, std::string_view why) {
  return fail(
      Code::invalid_argument,
      fmt::format("budget: got \"{}\" ({}), expected a share of dense attention such as 15% "
                  "or 0.15, or with a device profile a time such as 120ms or 0.12s",
                  text, why));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

// The text without `unit` at its end.
std::optional<std::string_view> without(std::string_view text, std::string_view unit) {
  text = trimmed(text);
  if (!text.ends_with(unit)) return std::nullopt;
  text.remove_suffix(unit.size());
  return trimmed(text);
}

std::optional<double> finite_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

}  // namespace

Result<double> parse_budget(std::string_view text) {
  const auto percent = without(text, "%");
  const auto value = finite_number(percent ? *percent : trimmed(text));
  if (!value) return wrong_budget(text, "not a number");
  const double share = percent ? *value / 100 : *value;
  if (share <= 0) return wrong_budget(text, "not above 0");
  if (share > 1)
    return wrong_budget(text, percent ? "above 100%" : "above 1; did you mean a percentage?");
  return share;
}

Result<std::optional<double>> parse_time(std::string_view text) {
  const auto seconds = without(text, "s");
  if (!seconds) return std::optional<double>();
  const auto milliseconds = without(text, "ms");
  const auto value = finite_number(milliseconds ? *milliseconds : *seconds);
  if (!value) return wrong_budget(text, "not a number");
  if (*value <= 0) return wrong_budget(text, "not above 0");
  return std::optional(milliseconds ? *value : 1000 * *value);
}

namespace {

// Tiles of a family's cheapest candidate on any prompt.
int64_t least_tiles(const Family& family, const runtime::CallShape& call, int64_t last) {
  const runtime::EstimatorParams& params = family.params;
  const bool window = params.pattern == runtime::Pattern::a_shape;
  const int64_t local = window ? static_cast<int64_t>(family.values.front()) - 1 : params.local;
  int64_t tiles = 0;
  for (int64_t m = 0; m < call.row_blocks(); ++m) {
    const int64_t end = call.keys_end(m);
    const int64_t first = m * kernels::kRowBlock;  // no prefix: c = 0
    int64_t forced = end;
    if (end <= call.n_q - last)
      forced = params.counts ? 0 : end - first + std::min(first, params.sink + local);
    tiles += runtime::tiles_for(forced);
  }
  return tiles;
}

// The profile's times for the model; null without a profile.
Result<const HeadDimTimes*> times_of(const ModelSpec& spec, const SearchOptions& options) {
  if (!options.device) {
    if (options.limit_ms)
      return fail(Code::invalid_argument,
                  "budget: a time needs the profile of a device (--device, made by mi-bench fit)");
    return nullptr;
  }
  if (const HeadDimTimes* times = find_times(*options.device, spec.head_dim)) return times;
  return fail(Code::invalid_argument,
              fmt::format("device profile: it has no head_dim {}, which {} has (mi-bench fit "
                          "--head-dim {})",
                          spec.head_dim, spec.name, spec.head_dim));
}

}  // namespace

Status check_feasible(const ModelSpec& spec, const SearchOptions& options,
                      std::span<const Sample> calibration) {
  MI_TRY(const HeadDimTimes* times, times_of(spec, options));
  for (const Sample& sample : calibration) {
    const runtime::CallShape call{sample.length(), sample.length(), spec.head_dim};
    double least = 1;
    double least_ms = times == nullptr ? 0 : times->dense_ms(call);
    for (const Family& family : options.space.families) {
      const int64_t tiles = least_tiles(family, call, options.compute.last);
      const double estimate = runtime::make_estimator(family.params)->flops(call);
      least = std::min(least, runtime::cost_share(call, tiles, estimate));
      if (times != nullptr)
        least_ms =
            std::min(least_ms, times->head_ms(call, family.params, static_cast<double>(tiles)));
    }
    if (times != nullptr) least_ms = spec.layers * (times->call + spec.heads * least_ms);
    if (options.limit_ms && !within(least_ms, *options.limit_ms))
      return fail(Code::invalid_argument,
                  fmt::format("budget: {:.4g}ms is below what these candidates take on any prompt "
                              "of {} tokens; the smallest feasible budget is at least {:.3f}ms",
                              *options.limit_ms, sample.length(), least_ms));
    if (options.limit && !within(least, *options.limit))
      return fail(
          Code::invalid_argument,
          fmt::format("budget: {:.4g}% is below what these candidates cost on any prompt of "
                      "{} tokens; the smallest feasible budget is at least {}%",
                      100 * *options.limit, sample.length(), percent_enough(least)));
  }
  return {};
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

runtime::HeadConfig to_config(const ModelSpec& spec, const ScoreTable& table,
                              const Allocation& allocation, const SearchOptions& options) {
  const ChosenScores scores{table, allocation, lengths_of(table), options.space.candidates() - 1};
  runtime::HeadConfig config;
  config.model = config_model(spec);
  config.producer = {.tool = "mi-search " MI_VERSION,
                     .backend = std::string(options.compute.backend->name()),
                     .options = options.description,
                     .seed = options.seed};
  config.calibration.lengths = scores.lengths;
  // A time as what it lets the dearest sample execute: the runtime counts in shares.
  config.limit.share = options.limit.value_or(1);
  if (options.limit_ms)
    config.limit.share = cap(*std::max_element(allocation.cost.begin(), allocation.cost.end()));
  config.limit.objective = options.min_recall ? "cost" : std::string(to_string(options.objective));
  config.limit.allocation =
      options.min_recall ? "min-recall" : std::string(to_string(options.allocation));
  config.limit.gap = significant(allocation.gap, 3);
  if (config.limit.allocation == "global") config.limit.loss = significant(allocation.loss, 6);
  for (size_t t = 0; t < scores.lengths.size(); ++t)
    config.limit.achieved[scores.lengths[t]] = decimals(allocation.cost[t], 6);
  config.kernel.last = options.compute.last;
  const HeadDimTimes* times = options.device ? find_times(*options.device, spec.head_dim) : nullptr;
  // What was calibrated and certified runs as it was.
  config.kernel.dense_below =
      std::min(times != nullptr ? times->dense_below : kDenseBelow, scores.lengths.front());
  std::vector<Shares> shares;
  for (size_t t = 0; t < scores.lengths.size(); ++t) shares.push_back(scores.caps(t));

  for (int layer = 0; layer < spec.layers; ++layer) {
    auto& heads = config.layers.emplace_back();
    for (int head = 0; head < spec.heads; ++head) {
      const auto l = static_cast<size_t>(layer);
      const auto h = static_cast<size_t>(head);
      const size_t flat = l * static_cast<size_t>(spec.heads) + h;
      const size_t family = candidate_id(options.space, allocation.chosen[0][flat]).family;
      runtime::HeadEntry& entry = heads.emplace_back();
      double recall = 0;
      for (const SampleScores& sample : table.samples)
        recall += scores.at(sample, l, h).recall / static_cast<double>(table.samples.size());
      if (family < options.space.families.size()) {
        const Family& chosen = options.space.families[family];
        entry = chosen.entry();
        for (size_t t = 0; t < scores.lengths.size(); ++t) {
          chosen.set_values(entry, candidate_id(options.space, allocation.chosen[t][flat]).index,
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

Result<SearchResult> search(const Model& model, std::span<const Sample> calibration,
                            std::span<const Sample> held_out, const SearchOptions& options,
                            const ProgressFn& progress) {
  MI_TRY(const HeadDimTimes* times, times_of(model.spec(), options));
  std::vector<std::string> warnings = sample_warnings(calibration, held_out);
  MI_CHECK(check_warnings(warnings, options.strict));
  SearchResult result;
  ComputeOptions compute = options.compute;
  compute.extras = options.objective == Objective::square;
  MI_TRY(const ScoreTable table,
         score_samples(model, calibration, options.space, compute, progress));
  result.forward_seconds = table.forward_seconds;
  result.score_seconds = table.score_seconds;

  const Clock::time_point allocate_start = Clock::now();
  const AllocationProblem problem = make_problem(table, options.space, options.objective);
  AllocationProblem timed;
  if (times != nullptr) timed = in_time(problem, table, options.space, *times);
  MI_TRY(Allocation allocation, allocate(options.limit_ms ? timed : problem, options));
  const auto lengths = lengths_of(table);
  for (size_t t = 0; t < lengths.size(); ++t) {
    allocation.cost[t] = dearest_cost(problem, t, allocation.chosen[t]);
    if (times == nullptr) continue;
    const double dense_ms = timed.dense_ms[t];
    result.predicted.push_back(
        {lengths[t], dense_ms * dearest_cost(timed, t, allocation.chosen[t]), dense_ms});
  }
  result.config = to_config(model.spec(), table, allocation, options);
  const auto of_heads = head_warnings(table, allocation);
  warnings.insert(warnings.end(), of_heads.begin(), of_heads.end());
  MI_CHECK(check_warnings(warnings, options.strict));
  result.config.warnings = std::move(warnings);
  result.config.calibration.samples = notes_of(calibration);
  result.config.calibration.held_out = notes_of(held_out);
  result.allocate_seconds = seconds_since(allocate_start);

  const Clock::time_point verify_start = Clock::now();
  if (!held_out.empty()) {
    MI_TRY(result.verdicts, verify(model, result.config, held_out, options.compute, progress));
    runtime::HeldOut summary = summarize(result.verdicts);
    summary.recall_mean = decimals(summary.recall_mean, 4);
    summary.output_error = significant(summary.output_error, 4);
    summary.logit_kl = significant(summary.logit_kl, 4);
    summary.top1_agreement = decimals(summary.top1_agreement, 4);
    for (auto& [length, share] : summary.achieved) share = decimals(share, 6);
    result.config.quality.held_out = summary;
  }
  result.verify_seconds = seconds_since(verify_start);
  return result;
}

}  // namespace mi::search
