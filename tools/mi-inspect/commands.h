// Subcommands of mi-inspect. Each adds itself to the parser; `run` is called when it was chosen.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace mi::tools {

inline constexpr std::string_view kInspect = "mi-inspect";

struct InspectOptions {
  std::string config;
  bool json = false;
};
// Sets `run` when chosen, which gives the exit code.
void add_show(CLI::App& app, InspectOptions& options, std::function<int()>& run);
void add_heads(CLI::App& app, InspectOptions& options, std::function<int()>& run);

}  // namespace mi::tools
