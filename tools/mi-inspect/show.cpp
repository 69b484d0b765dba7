#include <unistd.h>

#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {

Status run_show(const InspectOptions& options) {
  MI_TRY(const auto config, load_head_config(options.config));
  if (options.json) return print_result(search::show_json(config));
  const Terminal out = terminal(STDOUT_FILENO);
  return print_result(search::show_table(config, {out.width, out.colour}));
}

}  // namespace mi::tools
