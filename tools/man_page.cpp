#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/describe.h"

namespace mi::tools {
namespace {

// Hyphens that stay hyphens when they are copied; no line that begins like a macro.
std::string troff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    line_begins = c == '\n';
  }
  return out;
}

std::string name_of(const CLI::Option& option) {
  return option.nonpositional() ? option.get_name(false, true) : option.get_name(true);
}

// "UINT:INT in [0 - 9] ..." and what it is unless given.
std::string value_of(const CLI::Option& option) {
  if (option.get_expected_max() == 0) return "";  // a flag
  std::string text = option.get_type_name();
  if (option.get_expected_max() > 1) text += " ...";
  const std::string& usual = option.get_default_str();
  return usual.empty() ? text : fmt::format("{} (default: {})", text, usual);
}

std::string synopsis(const CLI::App& app, const std::string& name) {
  std::string out = fmt::format(".B {}\n", troff(name));
  out += app.get_subcommands({}).empty() ? "[options]" : "[options] command [...]";
  for (const CLI::Option* option : app.get_options())
    if (option->get_positional()) out += fmt::format(" \\fI{}\\fR", troff(name_of(*option)));
  return out + "\n";
}

std::string options(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    out += fmt::format(".TP\n\\fB{}\\fR", troff(name_of(*option)));
    if (const std::string value = value_of(*option); !value.empty())
      out += fmt::format(" \\fI{}\\fR", troff(value));
    out += "\n" + troff(option->get_description());
    out += option->get_required() ? " (required)\n" : "\n";
  }
  return out;
}

}  // namespace

std::string man_page(const CLI::App& app) {
  const std::string& name = app.get_name();
  std::string out = fmt::format(".TH {} 1 \"\" \"mi {}\"\n", troff(name), MI_VERSION);
  out += fmt::format(".SH NAME\n{} \\- {}\n", troff(name), troff(app.get_description()));
  out += ".SH SYNOPSIS\n" + synopsis(app, name);
  out += ".SH OPTIONS\n" + options(app);
  for (const CLI::App* command : app.get_subcommands({})) {
    const std::string full = name + " " + command->get_name();
    out += fmt::format(".SH {}\n{}\n.PP\n", troff(full), troff(command->get_description()));
    out += synopsis(*command, full) + options(*command);
  }
  return out + fmt::format(".SH EXIT STATUS\n{}\n", troff(app.get_footer()));
}

}  // namespace mi::tools
