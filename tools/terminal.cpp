#include "tools/terminal.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <new>
#include <optional>
#include <sstream>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "libsearch/report/paint.h"
#include "tools/describe.h"

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
  return ::isatty(fd) == 1 ? Terminal{}.width : kMostWidth;  // a file or a pipe: nothing is cut
}

// What a line "key: number kB" of a file of /proc says.
std::optional<size_t> proc_bytes(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string word; file >> word;)
    if (size_t kilobytes = 0; word == key && file >> kilobytes) return kilobytes << 10;
  return std::nullopt;
}

// Linux grants memory that it does not have and kills whoever uses it: allocations beyond what is
// free now shall fail, where a message can still be written.
void limit_memory() {
  const auto available = proc_bytes("/proc/meminfo", "MemAvailable:");
  const auto own = proc_bytes("/proc/self/status", "VmData:");
  rlimit limit{};
  if (!available || !own || ::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, *own + *available);
  ::setrlimit(RLIMIT_DATA, &limit);
}

// An empty word is a variable that the caller's script never set, not a wish for what is standard.
Status check_words(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options())
    for (const std::string& word : option->results())
      if (word.empty())
        return fail(Code::invalid_argument,
                    fmt::format("{}: found an empty value, expected one", option->get_name()));
  for (const CLI::App* command : app.get_subcommands()) MI_CHECK(check_words(*command));
  return {};
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

void print_note(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

int give_up(std::string_view tool, std::string_view what) noexcept {
  for (const std::string_view part : {tool, std::string_view(": "), what, std::string_view("\n")})
    print_note(part);
  return kExitFailed;
}

int run_tool(CLI::App& app, std::string_view tool, int argc, char** argv,
             const std::function<int()>& run) try {
  // A model file that another program shortens while its pages are mapped.
  std::signal(SIGBUS, [](int) {
    constexpr std::string_view kWhat = "a file became shorter while it was read\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kWhat.data(), kWhat.size());
    ::_exit(kExitFile);
  });
  // A write past the limit on file size shall fail like one to a full disk, not kill.
  std::signal(SIGXFSZ, SIG_IGN);
  app.name(std::string(tool));
  app.set_version_flag("--version", fmt::format("{} {}", tool, MI_VERSION));
  app.footer("Exit codes: 0 done, 1 failed, 2 usage, 3 a file is missing or not understood.");
  // What is printed in place of a run, as --version is: required options need not be there.
  const auto print = [](const std::string& text) { throw CLI::CallForVersion(text, 0); };
  app.add_option_function<std::string>(
         "--completion", [&](const std::string& shell) { print(completion(app, shell)); },
         "Print a completion script for this shell and exit")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->trigger_on_parse();
  app.add_flag_callback(
      "--man", [&] { print(man_page(app)); }, "Print the manual page and exit");
  limit_memory();
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    if (app.get_require_subcommand_min() > 0 && app.get_subcommands().empty() &&
        !app.remaining().empty())
      return report(tool, fail(Code::invalid_argument,
                               fmt::format("found {}, expected a subcommand; --help lists them",
                                           app.remaining().front())));
    app.exit(error);
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    // CLI11 numbers its errors from 100 on; 0 is --help and --version.
    std::ostringstream out;
    if (app.exit(error, out, std::cerr) != 0) return kExitUsage;
    return report(tool, print_result(out.str()));
  }
  if (const Status words = check_words(app); !words) return report(tool, words);
  return run();
} catch (const std::bad_alloc&) {
  return give_up(tool, "not enough memory");
} catch (const std::exception& error) {
  return report(tool, {Code::internal, error.what()});
}

int report(std::string_view tool, const Status& status) {
  if (status) return kExitDone;
  constexpr size_t kLongest = 2000;
  std::string text = fmt::format("{}: {}", tool, status.what);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + " ...";
  print_note(search::printable(text) + '\n');
  return exit_code(status);
}

Status print_result(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return {};
  return fail(Code::internal, fmt::format("cannot write to stdout: {}", std::strerror(errno)));
}

}  // namespace mi::tools
