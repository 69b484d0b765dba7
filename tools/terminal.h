// What the tools share at their edge: the terminal they write to, and exit codes.
#pragma once

#include <string_view>

#include "kernels/status.h"

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

// Prints "tool: what" to stderr; gives the exit code.
int report(std::string_view tool, const Status& status);
// Writes results to stdout; a failure to (a full disk behind a redirection) is reported.
int print_result(std::string_view tool, std::string_view text);

}  // namespace mi::tools
