// mi-inspect: what a head-config says. Wiring only.
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

int main(int argc, char** argv) {
  try {
    CLI::App app{"Shows what a head-config says"};
    app.name(std::string(mi::tools::kInspect));
    app.set_version_flag("--version", "mi-inspect " MI_VERSION);
    app.require_subcommand(1);
    mi::tools::InspectOptions options;
    std::function<int()> run;
    mi::tools::add_show(app, options, run);
    mi::tools::add_heads(app, options, run);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      // CLI11 numbers its errors from 100 on; 0 is --help and --version.
      return app.exit(error) == 0 ? mi::tools::kExitDone : mi::tools::kExitUsage;
    }
    return run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", mi::tools::kInspect, error.what());
    return mi::tools::kExitFailed;
  }
}
