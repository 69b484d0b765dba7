// Which of a report's candidates a head-config chose: configs name parameters, reports number them.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

// [length] of one head, lengths rising; empty where its parameters are those of no candidate.
using ChosenCandidates = std::vector<size_t>;

// [layer][head]. The config must be of the report's model and calibration samples.
[[nodiscard]] std::vector<std::vector<ChosenCandidates>> chosen_candidates(
    const ScoreReport& report, const runtime::HeadConfig& config);

// Code::schema unless the config is of the report's model and was calibrated on its samples.
[[nodiscard]] Status check_same_scores(const ScoreReport& report, std::string_view report_file,
                                       const runtime::HeadConfig& config,
                                       std::string_view config_file);

}  // namespace mi::search
