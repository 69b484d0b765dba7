#include <unistd.h>

#include <CLI/CLI.hpp>

#include "libruntime/config.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

int run_show(const InspectOptions& options) {
  const auto config = runtime::load_config(options.config);
  if (!config) return report(kInspect, config.error());
  if (options.json) return report(kInspect, print_result(search::show_json(*config)));
  const Terminal out = terminal(STDOUT_FILENO);
  return report(kInspect, print_result(search::show_table(*config, {out.width, out.colour})));
}

}  // namespace

void add_show(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "show", "Model, limit, pattern mix per layer, recall, worst heads and certificate");
  command->add_option("config", options.config, "Head-config (YAML)")->required();
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { run = [&] { return run_show(options); }; });
}

}  // namespace mi::tools
