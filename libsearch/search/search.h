// The main job: samples in, head-config out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/search/score_report.h"
#include "libsearch/search/verify.h"

namespace mi::search {

enum class AllocationMode { global, per_head };
[[nodiscard]] std::string_view to_string(AllocationMode mode);

struct SearchOptions {
  CandidateSpace space = default_candidates();
  Objective objective = Objective::error;
  AllocationMode allocation = AllocationMode::global;
  std::optional<double> limit;       // share of dense
  std::optional<double> limit_ms;    // instead: of one prefill's attention, on `device`
  std::optional<double> min_recall;  // least cost with this p05 recall in every head, within limit
  uint64_t seed = 0;
  bool strict = false;  // warnings are errors
  // The options as the user gave them, for the files: those that decide scores, and the others.
  std::string scoring, description;
  std::optional<DeviceProfile> device;
  ComputeOptions compute;
};

// Attention of one prefill, all layers, on the profile's device: the dearest calibration sample.
struct PredictedTime {
  int64_t length = 0;
  double ms = 0;
  double dense_ms = 0;
};

struct SearchResult {
  runtime::HeadConfig config;
  std::vector<PredictedTime> predicted;  // of every calibrated length; empty without a profile
  std::vector<SampleVerdict> verdicts;   // of the held-out samples
  double forward_seconds = 0;
  double score_seconds = 0;
  double allocate_seconds = 0;
  double verify_seconds = 0;
};

// "15%", "0.15" or "15 %" -> 0.15. Errors: unreadable, not above 0, above 100 %.
[[nodiscard]] Result<double> parse_budget(std::string_view text);
// "120ms", "0.12s" -> 120; nothing where the text is no time. Errors: unreadable, not above 0.
[[nodiscard]] Result<std::optional<double>> parse_time(std::string_view text);

// With limit_ms the problem is in_time's.
[[nodiscard]] Result<Allocation> allocate(const AllocationProblem& problem,
                                          const SearchOptions& options);

// A profile without the model's head dim, a time without a profile, and a limit below what the
// forced keys and the estimates cost, whatever the prompt: known before the search. Names the least
// that the smallest feasible budget can be.
[[nodiscard]] Status check_feasible(const ModelSpec& spec, const SearchOptions& options,
                                    std::span<const Sample> calibration);

// The profile's times for the model; null without a profile. Errors: the profile lacks the head
// dim, or a time is asked for without a profile.
[[nodiscard]] Result<const HeadDimTimes*> times_of(const runtime::HeadConfig::Model& model,
                                                   const SearchOptions& options);

// Nothing scored yet.
[[nodiscard]] ScoreReport empty_report(const ModelSpec& spec, std::span<const Sample> calibration,
                                       std::span<const Sample> held_out,
                                       const SearchOptions& options);
// Called with what is scored so far, after every sample, and once the pictures are there; an error
// ends the search.
using ReportFn = std::function<Status(const ScoreReport&)>;
// Scores what the report lacks. Of the options, those of the machine count.
[[nodiscard]] Status score(const Model& model, std::span<const Sample> calibration,
                           const ComputeOptions& options, const ProgressFn& progress,
                           const ReportFn& scored, ScoreReport& report);

// The head-config of an allocation; chosen[length][head] as in Allocation, lengths rising.
[[nodiscard]] runtime::HeadConfig to_config(const ScoreReport& report, const Allocation& allocation,
                                            const SearchOptions& options);
// The best head-config of a complete report under the limit; no certificate.
struct Configured {
  runtime::HeadConfig config;
  std::vector<PredictedTime> predicted;
};
[[nodiscard]] Result<Configured> configure(const ScoreReport& report, const SearchOptions& options);

// What a search is to remember, and what it is to go on from.
struct SearchRecord {
  ReportFn scored;                       // or empty
  const ScoreReport* earlier = nullptr;  // of the same search, perhaps not complete
};
[[nodiscard]] Result<SearchResult> search(const Model& model, std::span<const Sample> calibration,
                                          std::span<const Sample> held_out,
                                          const SearchOptions& options, const ProgressFn& progress,
                                          const SearchRecord& record = {});

}  // namespace mi::search
