#include <unistd.h>

#include <fmt/format.h>

#include "libruntime/config.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {

Status run_heads(const InspectOptions& options) {
  MI_TRY(const auto config, load_head_config(options.config));
  search::HeadFilter filter;
  filter.order = *search::head_order_from_string(options.sort);
  filter.below = options.below;
  if (!options.pattern.empty()) {
    filter.pattern = runtime::pattern_from_string(options.pattern);
    if (!filter.pattern)
      return fail(Code::invalid_argument,
                  fmt::format("pattern: found {}, expected one of dense, a_shape, vertical_slash, "
                              "block_sparse, stripe and stripe+vertical_slash",
                              options.pattern));
  }
  const auto places = search::select_heads(config, filter);
  if (options.json) return print_result(search::heads_json(config, places));
  if (options.csv) return print_result(search::heads_csv(config, places));
  const Terminal out = terminal(STDOUT_FILENO);
  return print_result(search::heads_table(config, places, {out.width, out.colour}));
}

}  // namespace mi::tools
