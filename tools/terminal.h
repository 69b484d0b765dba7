// What the tools share at their edge: the terminal they write to, and exit codes.
#pragma once

#include <functional>
#include <string_view>

#include "kernels/status.h"

namespace CLI {
class App;
}

namespace mi::tools {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitFile = 3;  // a file that is missing or not understood
[[nodiscard]] int exit_code(const Status& status);

struct Terminal {
  bool interactive = false;
  int width = 100;
  bool colour = false;  // interactive, not TERM=dumb, and NO_COLOR is not set
};
[[nodiscard]] Terminal terminal(int fd);

// The whole of a main: parses, then calls `run`; an exception becomes "tool: what" and an exit
// code.
int run_tool(CLI::App& app, std::string_view tool, int argc, char** argv,
             const std::function<int()>& run);
// Writes to stderr; never throws, also when stderr is closed or full.
void print_note(std::string_view text) noexcept;
// The last words of a main whose parser could not even be set up: allocates nothing.
int give_up(std::string_view tool, std::string_view what) noexcept;
// Prints "tool: what" to stderr unless the status is ok; gives the exit code. What files contain
// may be in the message: what is not printable is replaced, and it ends after 2000 bytes.
int report(std::string_view tool, const Status& status);
// Writes results to stdout, unless that is full or closed.
[[nodiscard]] Status print_result(std::string_view text);

}  // namespace mi::tools
