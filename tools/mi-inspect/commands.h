// Subcommands of mi-inspect. Only options.cpp and main.cpp know the parser: its templates take
// most of what a file that includes it takes to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libsearch/report/heads.h"
#include "libsearch/search/score_report.h"
#include "tools/limit_options.h"

namespace CLI {
class App;
}

namespace mi::tools {

inline constexpr std::string_view kInspect = "mi-inspect";

struct InspectOptions {
  std::string config;
  std::string other;                 // of two head-configs the second
  std::vector<std::string> configs;  // where any number may be given
  std::string sort = "place";
  std::string pattern;
  std::optional<double> below;
  bool csv = false;
  std::string report;
  LimitOptions limit;
  std::string output;
  std::string model;
  std::vector<std::string> texts;
  std::vector<int64_t> lengths;  // empty: the file's
  std::optional<int64_t> length;
  std::optional<double> least_recall, most_kl;
  int64_t chunk = 0;  // tokens per prefill call; 0: whole prompts
  int threads = 0;    // 0: all
  std::string backend;
  bool json = false;
  std::vector<std::string> heads;  // LAYER.HEAD
};
// An error that says which subcommands take a score report, if that is what the file is.
[[nodiscard]] Status check_no_report(const std::string& path);
[[nodiscard]] Result<runtime::HeadConfig> load_head_config(const std::string& path);
[[nodiscard]] Result<std::vector<search::HeadPlace>> parse_places(
    const std::vector<std::string>& texts, const runtime::HeadConfig::Model& model);
// Of a search that scored all its samples.
[[nodiscard]] Result<search::ScoreReport> load_complete_report(const std::string& path);
// Leaves of the report the lengths that the config was calibrated at; an error unless the config's
// figures are then the report's.
[[nodiscard]] Status match_report(search::ScoreReport& report, const std::string& report_file,
                                  const runtime::HeadConfig& config,
                                  const std::string& config_file);
// Whether --device, where it is given, was measured on the backend that the report is for.
[[nodiscard]] Status check_report_device(const InspectOptions& options,
                                         const search::SearchOptions& asked,
                                         const search::ScoreReport& report);
// Whether the report has what the objective needs.
[[nodiscard]] Status check_objective(const std::string& path, const search::ScoreReport& report,
                                     search::Objective objective);

// Adds every subcommand to the parser; the one chosen sets `run`, which gives the exit code.
void add_commands(CLI::App& app, InspectOptions& options, std::function<int()>& run);

[[nodiscard]] Status run_show(const InspectOptions& options);
[[nodiscard]] Status run_heads(const InspectOptions& options);
[[nodiscard]] Status run_head(const InspectOptions& options);
[[nodiscard]] int run_diff(const InspectOptions& options);
[[nodiscard]] int run_validate(const InspectOptions& options);
[[nodiscard]] Status run_convert(const InspectOptions& options);
[[nodiscard]] Status run_pareto(const InspectOptions& options);
[[nodiscard]] Status run_verify(const InspectOptions& options);
[[nodiscard]] int run_capture(const InspectOptions& options);
[[nodiscard]] Status run_html(const InspectOptions& options);

}  // namespace mi::tools
