// mi-inspect: what a head-config or a score report says. Wiring only.
#include <exception>
#include <functional>

#include <CLI/CLI.hpp>

#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

int main(int argc, char** argv) try {
  CLI::App app{"Shows what a head-config or a score report says"};
  app.require_subcommand(1);
  mi::tools::InspectOptions options;
  std::function<int()> run;
  mi::tools::add_commands(app, options, run);
  return mi::tools::run_tool(app, mi::tools::kInspect, argc, argv, [&] { return run(); });
} catch (const std::exception& error) {  // from the parser's own set-up
  return mi::tools::give_up(mi::tools::kInspect, error.what());
}
