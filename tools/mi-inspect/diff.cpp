#include <unistd.h>

#include "libsearch/report/chosen.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Result<bool> print_diff(const InspectOptions& options) {
  MI_TRY(const auto a, load_head_config(options.config));
  MI_TRY(const auto b, load_head_config(options.other));
  MI_CHECK(search::check_same_model(b, options.other, a.model, options.config));
  const std::vector<search::HeadPlace> different = search::different_heads(a, b);
  // Heads that were asked for are shown whether they differ or not.
  MI_TRY(std::vector<search::HeadPlace> places, parse_places(options.heads, a.model));
  if (places.empty()) places = different;
  if (options.sort == "gain") search::sort_by_gain(places, a, b);
  const Terminal out = terminal(STDOUT_FILENO);
  const int width = out.interactive ? out.width : search::kUncut;
  MI_CHECK(print_result(options.json ? search::diff_json(a, b, places)
                                     : search::diff_table(a, b, places, {width, out.colour})));
  return a.kernel == b.kernel && different.empty();
}

}  // namespace

int run_diff(const InspectOptions& options) {
  const auto same = print_diff(options);
  if (!same) return report(kInspect, same.error());
  return *same ? kExitDone : kExitFailed;
}

}  // namespace mi::tools
