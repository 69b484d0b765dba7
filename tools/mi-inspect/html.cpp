// A score report and a head-config as one HTML file.
#include <optional>

#include <fmt/format.h>

#include "libruntime/atomic_file.h"
#include "libsearch/report/chosen.h"
#include "libsearch/report/html.h"
#include "tools/mi-inspect/commands.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

// The file's config, or the one that the options ask for.
Result<runtime::HeadConfig> config_of(const InspectOptions& options, search::ScoreReport& report,
                                      const search::SearchOptions& asked) {
  if (!options.config.empty()) {
    MI_TRY(runtime::HeadConfig config, load_head_config(options.config));
    MI_CHECK(match_report(report, options.report, config, options.config));
    return config;
  }
  MI_TRY(search::Configured made, search::configure(report, asked));
  return std::move(made.config);
}

}  // namespace

Status run_html(const InspectOptions& options) {
  MI_CHECK(check_outputs({options.output}, {options.report, options.config, options.limit.device}));
  search::SearchOptions asked;
  MI_CHECK(read_limit_options(options.limit, asked));
  const std::string& given = asked.description;
  if (options.config.empty() == given.empty())
    return fail(Code::invalid_argument,
                fmt::format("config: found {}, expected one of a head-config and options to "
                            "allocate one (--budget 15%)",
                            given.empty() ? "none" : options.config + " and " + given));
  MI_CHECK(runtime::check_writable(options.output));
  MI_TRY(search::ScoreReport report, load_complete_report(options.report));
  MI_CHECK(check_report_device(options, asked, report));
  MI_CHECK(check_objective(options.report, report, asked.objective));
  MI_TRY(const runtime::HeadConfig config, config_of(options, report, asked));
  MI_TRY(const std::vector<search::HeadPlace> heads, parse_places(options.heads, config.model));
  search::SearchOptions every;
  every.objective = search::objective_of(config);
  MI_CHECK(check_objective(options.report, report, every.objective));
  // Of short prompts none of the curve's limits can be kept; their page says so.
  MI_TRY(const std::vector<search::ParetoPoint> curve, search::pareto_curve(report, every));
  const auto published = search::published_curve(report, every.objective);
  return runtime::write_file_atomically(
      options.output, search::html_page(report, config, {curve, published, heads}));
}

}  // namespace mi::tools
