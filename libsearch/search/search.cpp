#include "libsearch/search/search.h"

#include <algorithm>

#include <fmt/format.h>

#include "libsearch/search/clock.h"
#include "libsearch/search/gates.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/rounding.h"

namespace mi::search {
namespace {

runtime::HeldOut certificate(std::span<const SampleVerdict> verdicts) {
  runtime::HeldOut summary = summarize(verdicts);
  summary.recall_mean = decimals(summary.recall_mean, 4);
  summary.output_error = significant(summary.output_error, 4);
  summary.logit_kl = significant(summary.logit_kl, 4);
  summary.top1_agreement = decimals(summary.top1_agreement, 4);
  for (auto& [length, share] : summary.achieved) share = decimals(share, 6);
  return summary;
}

std::vector<runtime::SampleNote> notes_of(std::span<const Sample> samples) {
  std::vector<runtime::SampleNote> notes;
  for (const Sample& sample : samples)
    notes.push_back({sample.source, sample.length(), sample.sha256});
  return notes;
}

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

}  // namespace

std::string_view to_string(AllocationMode mode) {
  return mode == AllocationMode::global ? "global" : "per-head";
}

Status check_feasible(const ModelSpec& spec, const SearchOptions& options,
                      std::span<const Sample> calibration) {
  MI_TRY(const HeadDimTimes* times, times_of(config_model(spec), options));
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

ScoreReport empty_report(const ModelSpec& spec, std::span<const Sample> calibration,
                         std::span<const Sample> held_out, const SearchOptions& options) {
  ScoreReport report;
  report.model = config_model(spec);
  report.backend = options.compute.layers_by();
  report.options = options.scoring;
  report.seed = options.seed;
  report.last = options.compute.last;
  report.extras = options.objective == Objective::square;
  report.space = options.space;
  report.samples = notes_of(calibration);
  report.held_out = notes_of(held_out);
  report.warnings = sample_warnings(calibration, held_out);
  return report;
}

Status score(const Model& model, std::span<const Sample> calibration, const ComputeOptions& options,
             const ProgressFn& progress, const ReportFn& scored, ScoreReport& report) {
  ComputeOptions compute = options;
  compute.extras = report.extras;
  compute.last = report.last;
  compute.chunk = 0;  // every candidate on the prompt as a whole
  return score_samples(model, calibration, report.space, compute, progress, report.table,
                       [&] { return scored ? scored(report) : Status{}; });
}

Result<SearchResult> search(const Model& model, std::span<const Sample> calibration,
                            std::span<const Sample> held_out, const SearchOptions& options,
                            const ProgressFn& progress, const SearchRecord& record) {
  MI_TRY([[maybe_unused]] const auto* times, times_of(config_model(model.spec()), options));
  ScoreReport report = empty_report(model.spec(), calibration, held_out, options);
  MI_CHECK(check_warnings(report.warnings, options.strict));
  if (record.earlier != nullptr) {
    if (const std::string difference = record.earlier->difference(report); !difference.empty())
      return fail(Code::invalid_argument, fmt::format("report of another search: {}", difference));
    report.table = record.earlier->table;
  }
  MI_CHECK(score(model, calibration, options.compute, progress, record.scored, report));
  SearchResult result;
  result.forward_seconds = report.table.forward_seconds;
  result.score_seconds = report.table.score_seconds;

  const Clock::time_point allocate_start = Clock::now();
  MI_TRY(Configured configured, configure(report, options));
  result.config = std::move(configured.config);
  result.predicted = std::move(configured.predicted);
  result.allocate_seconds = seconds_since(allocate_start);

  const Clock::time_point verify_start = Clock::now();
  if (!held_out.empty()) {
    MI_TRY(Verified verified,
           verify(model, result.config, held_out, options.compute, progress, true));
    result.verdicts = std::move(verified.verdicts);
    report.pictures = std::move(verified.pictures);
    if (record.scored) MI_CHECK(record.scored(report));
    result.config.quality.held_out = certificate(result.verdicts);
  }
  result.verify_seconds = seconds_since(verify_start);
  return result;
}

}  // namespace mi::search
