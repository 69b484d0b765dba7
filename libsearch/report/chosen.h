// Which of a report's candidates a head-config chose: configs name parameters, reports number them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/report/heads.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

// [length] of one head, lengths rising; empty where its parameters are those of no candidate.
using ChosenCandidates = std::vector<size_t>;

[[nodiscard]] ChosenCandidates chosen_candidates(const ScoreReport& report,
                                                 const runtime::HeadEntry& entry);
// [layer][head]. The config must be of the report's model and calibration samples.
[[nodiscard]] std::vector<std::vector<ChosenCandidates>> chosen_candidates(
    const ScoreReport& report, const runtime::HeadConfig& config);

// What a report says of one candidate of a head at one length, over the samples of that length.
struct HeadFigures {
  double recall = 0;       // mean
  double recall_p05 = 1;   // of the worst sample
  double recall_min = 1;   // likewise
  double recall_last = 0;  // mean
  double share = 0;        // mean executed share of dense
  double regret = 0;       // mean of 1 - recall - oracle_lost
  double error = 0;        // mean
};

[[nodiscard]] HeadFigures figures_of(std::span<const SampleScores> samples, int64_t length,
                                     HeadPlace place, size_t candidate);

// Code::schema unless the config is of that model, which `model_file` holds.
[[nodiscard]] Status check_same_model(const runtime::HeadConfig& config,
                                      std::string_view config_file,
                                      const runtime::HeadConfig::Model& model,
                                      std::string_view model_file);

// Code::schema unless the config is of the report's model and was calibrated on its samples.
[[nodiscard]] Status check_same_scores(const ScoreReport& report, std::string_view report_file,
                                       const runtime::HeadConfig& config,
                                       std::string_view config_file);

}  // namespace mi::search
