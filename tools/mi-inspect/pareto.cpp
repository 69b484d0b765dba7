// Head-configs of any limit from the scores that a search left behind.
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "libruntime/atomic_file.h"
#include "libsearch/report/pareto_curve.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Result<std::string> curve(const InspectOptions& options, const search::ScoreReport& report,
                          const search::SearchOptions& asked) {
  MI_TRY(const std::vector<search::ParetoPoint> points, search::pareto_curve(report, asked));
  if (points.size() < search::kParetoLimits.size())
    print_note(fmt::format(
        "{}: note: {} of {} budgets are left out: the cheapest assignment of these candidates "
        "takes {}%\n",
        kInspect, search::kParetoLimits.size() - points.size(), search::kParetoLimits.size(),
        search::percent_enough(search::least_budget(report, asked))));
  auto json = nlohmann::ordered_json::array();
  std::string text = fmt::format("{:>7}{:>11}{:>12}{:>9}{:>14}{:>12}\n", "budget", "executed",
                                 "loss", "recall", "p05 of heads", "worst head");
  for (const search::ParetoPoint& point : points) {
    json.push_back({{"limit", point.limit},
                    {"executed", point.executed},
                    {"loss", point.loss},
                    {"recall_mean", point.recall_mean},
                    {"recall_p05", point.recall_p05},
                    {"recall_min", point.recall_min}});
    text += fmt::format("{:>5.4g} %{:>9.2f} %{:>12.5g}{:>9.4f}{:>14.4f}{:>12.4f}\n",
                        100 * point.limit, 100 * point.executed, point.loss, point.recall_mean,
                        point.recall_p05, point.recall_min);
  }
  return options.json ? json.dump(2) + "\n" : text;
}

}  // namespace

Status run_pareto(const InspectOptions& options) {
  MI_CHECK(check_outputs({options.output}, {options.report, options.limit.device}));
  MI_TRY(search::ScoreReport report, load_complete_report(options.report));
  search::SearchOptions asked;
  MI_CHECK(read_limit_options(options.limit, asked));
  if (!options.lengths.empty()) {
    MI_CHECK(report.keep_lengths(options.lengths));
    asked.description += fmt::format(" --lengths {}", fmt::join(options.lengths, ","));
  }
  MI_CHECK(check_report_device(options, asked, report));
  MI_CHECK(check_objective(options.report, report, asked.objective));
  const Terminal out = terminal(STDOUT_FILENO);
  if (!asked.limit && !asked.limit_ms && !asked.min_recall) {
    if (!options.output.empty())
      return fail(Code::invalid_argument, "output: a head-config needs --budget (or --min-recall)");
    MI_TRY(const std::string text, curve(options, report, asked));
    return print_result(text);
  }
  if (!options.output.empty()) MI_CHECK(runtime::check_writable(options.output));
  MI_TRY(const search::Configured made, search::configure(report, asked));
  if (!options.output.empty()) MI_CHECK(runtime::save_config(made.config, options.output));
  return print_result(options.json ? search::show_json(made.config)
                                   : search::show_table(made.config, {out.width, out.colour}));
}

}  // namespace mi::tools
