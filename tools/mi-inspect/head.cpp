#include <unistd.h>

#include "libruntime/config.h"
#include "libsearch/report/chosen.h"
#include "libsearch/report/head.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {

Status run_head(const InspectOptions& options) {
  MI_TRY(search::ScoreReport report, load_complete_report(options.report));
  MI_TRY(const auto config, runtime::load_config(options.config));
  MI_CHECK(match_report(report, options.report, config, options.config));
  const Terminal out = terminal(STDOUT_FILENO);
  std::string text;
  for (const std::string& head : options.heads) {
    MI_TRY(const search::HeadPlace place, search::parse_place(head, config.model));
    if (!text.empty()) text += '\n';
    text += search::head_text(report, config, place, {out.width, out.colour});
  }
  return print_result(text);
}

}  // namespace mi::tools
