// mi-bench: measurements behind the README's tables. Wiring only.
#include <exception>
#include <functional>

#include <CLI/CLI.hpp>

#include "tools/mi-bench/commands.h"
#include "tools/terminal.h"

int main(int argc, char** argv) try {
  CLI::App app{"Measures head-configs against dense attention and the published method"};
  app.require_subcommand(1);
  mi::tools::BenchOptions options;
  std::function<int()> run;
  mi::tools::add_commands(app, options, run);
  return mi::tools::run_tool(app, mi::tools::kBench, argc, argv, [&] { return run(); });
} catch (const std::exception& error) {  // from the parser's own set-up
  return mi::tools::give_up(mi::tools::kBench, error.what());
}
