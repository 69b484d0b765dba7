#include <unistd.h>

#include "libruntime/config.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {

Status run_heads(const InspectOptions& options) {
  MI_TRY(const auto config, runtime::load_config(options.config));
  if (options.json) return print_result(search::heads_json(config));
  const Terminal out = terminal(STDOUT_FILENO);
  return print_result(search::heads_table(config, {out.width, out.colour}));
}

}  // namespace mi::tools
