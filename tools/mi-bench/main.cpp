// mi-bench: measurements behind the README's tables. Wiring only.
#include <exception>
#include <functional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/mi-bench/commands.h"
#include "tools/terminal.h"

int main(int argc, char** argv) {
  try {
    CLI::App app{"Measures head-configs against dense attention and the published method"};
    app.name(std::string(mi::tools::kBench));
    app.set_version_flag("--version", "mi-bench " MI_VERSION);
    app.require_subcommand(1);
    mi::tools::BenchOptions options;
    std::function<int()> run;
    mi::tools::add_frontier(app, options, run);
    mi::tools::add_needles(app, options, run);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? mi::tools::kExitDone : mi::tools::kExitUsage;
    }
    return run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", mi::tools::kBench, error.what());
    return mi::tools::kExitFailed;
  }
}
