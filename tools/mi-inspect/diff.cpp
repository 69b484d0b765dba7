#include <unistd.h>

#include "libruntime/config.h"
#include "libsearch/report/chosen.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Result<bool> print_diff(const InspectOptions& options) {
  MI_TRY(const auto a, runtime::load_config(options.config));
  MI_TRY(const auto b, runtime::load_config(options.other));
  MI_CHECK(search::check_same_model(b, options.other, a.model, options.config));
  const Terminal out = terminal(STDOUT_FILENO);
  MI_CHECK(print_result(options.json ? search::diff_json(a, b)
                                     : search::diff_table(a, b, {out.width, out.colour})));
  return a.kernel == b.kernel && search::different_heads(a, b).empty();
}

}  // namespace

int run_diff(const InspectOptions& options) {
  const auto same = print_diff(options);
  if (!same) return report(kInspect, same.error());
  return *same ? kExitDone : kExitFailed;
}

}  // namespace mi::tools
