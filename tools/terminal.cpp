#include "tools/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fmt/format.h>

namespace mi::tools {
namespace {

constexpr int kLeastWidth = 40;
constexpr int kMostWidth = 200;

int width_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  if (const char* columns = std::getenv("COLUMNS")) {
    int width = 0;
    const char* end = columns + std::strlen(columns);
    if (std::from_chars(columns, end, width).ptr == end && width > 0) return width;
  }
  return Terminal{}.width;
}

}  // namespace

int exit_code(const Status& status) {
  switch (status.code) {
    case Code::ok:
      return kExitDone;
    case Code::invalid_argument:
      return kExitUsage;
    case Code::io:
    case Code::schema:
      return kExitFile;
    default:
      return kExitFailed;
  }
}

Terminal terminal(int fd) {
  Terminal out;
  out.interactive = ::isatty(fd) == 1;
  const int width = width_of(fd);
  out.width = width < kLeastWidth ? kLeastWidth : width > kMostWidth ? kMostWidth : width;
  const char* no_colour = std::getenv("NO_COLOR");  // no-color.org: set and not empty
  const char* term = std::getenv("TERM");
  out.colour = out.interactive && (no_colour == nullptr || *no_colour == '\0') && term != nullptr &&
               std::string_view(term) != "dumb";
  return out;
}

int report(std::string_view tool, const Status& status) {
  fmt::print(stderr, "{}: {}\n", tool, status.what);
  return exit_code(status);
}

int print_result(std::string_view tool, std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return kExitDone;
  fmt::print(stderr, "{}: cannot write to stdout: {}\n", tool, std::strerror(errno));
  return kExitFailed;
}

}  // namespace mi::tools
