#include <algorithm>

#include <fmt/format.h>

#include "kernels/backend.h"
#include "libsearch/report/chosen.h"
#include "libsearch/report/report_file.h"
#include "tools/mi-inspect/commands.h"

namespace mi::tools {

Result<search::ScoreReport> load_complete_report(const std::string& path) {
  MI_TRY(search::ScoreReport report, search::load_report(path));
  if (!report.complete())
    return fail(Code::schema,
                fmt::format("{}: found scores of {} samples, expected {}: mi-search --resume "
                            "finishes it",
                            path, report.table.samples.size(), report.samples.size()));
  return report;
}

Status match_report(search::ScoreReport& report, const std::string& report_file,
                    const runtime::HeadConfig& config, const std::string& config_file) {
  const auto known = search::lengths_of(report.table);
  const auto& lengths = config.calibration.lengths;
  const bool all_known = std::all_of(lengths.begin(), lengths.end(), [&](int64_t length) {
    return std::find(known.begin(), known.end(), length) != known.end();
  });
  // What it lacks is told by the check of samples.
  if (all_known && !lengths.empty()) MI_CHECK(report.keep_lengths(lengths));
  MI_CHECK(search::check_same_scores(report, report_file, config, config_file));
  if (config.kernel.last != report.last)
    return fail(Code::schema,
                fmt::format("{}: kernel.last: found {}, expected {} as in {}", config_file,
                            config.kernel.last, report.last, report_file));
  return {};
}

Status check_report_device(const InspectOptions& options, const search::SearchOptions& asked,
                           const search::ScoreReport& report) {
  // A search in f32 on a backend for bf16 is recorded as of the backend that computes its f32.
  const bool is_f32 = report.options.find("--precision bf16") == std::string::npos;
  for (const kernels::Backend* backend : kernels::all_backends())
    if (is_f32 && asked.device && backend->name() == asked.device->backend &&
        backend->f32().name() == report.backend)
      return {};
  return check_device(options.limit, asked, options.report, report.backend);
}

Status check_objective(const std::string& path, const search::ScoreReport& report,
                       search::Objective objective) {
  if (objective != search::Objective::square || report.extras) return {};
  return fail(Code::invalid_argument,
              fmt::format("objective: {} has no squares of lost mass (mi-search --objective square "
                          "records them)",
                          path));
}

}  // namespace mi::tools
