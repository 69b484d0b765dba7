#include <fmt/format.h>

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

Status check_objective(const std::string& path, const search::ScoreReport& report,
                       search::Objective objective) {
  if (objective != search::Objective::square || report.extras) return {};
  return fail(Code::invalid_argument,
              fmt::format("objective: {} has no squares of lost mass (mi-search --objective square "
                          "records them)",
                          path));
}

}  // namespace mi::tools
