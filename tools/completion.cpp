#include <algorithm>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/describe.h"

namespace mi::tools {
namespace {

// The words of which an option takes one: CLI11 keeps them in its type, "TEXT:{auto,bf16,f32}".
std::string words_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{');
  const size_t end = type.find('}', begin);
  if (end == std::string::npos) return "";
  std::string words = type.substr(begin + 1, end - begin - 1);
  std::replace(words.begin(), words.end(), ',', ' ');
  return words;
}

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (std::string& name : names_of(*option)) names.push_back(std::move(name));
  return fmt::format("{}", fmt::join(names, " "));
}

std::string subcommand_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return fmt::format("{}", fmt::join(names, " "));
}

// The app and its subcommands: what completes by itself.
std::vector<const CLI::App*> parts_of(const CLI::App& app) {
  std::vector<const CLI::App*> parts = {&app};
  for (const CLI::App* command : app.get_subcommands({})) parts.push_back(command);
  return parts;
}

// In single quotes, for all three shells.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string identifier(const CLI::App& app) {
  std::string name = "_" + app.get_name();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string bash(const CLI::App& app) {
  std::string out = fmt::format(
      "{0}() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=\n"
      "  [[ $COMP_CWORD -gt 1 && ' {1} ' == *\" ${{COMP_WORDS[1]}} \"* ]] && "
      "command=${{COMP_WORDS[1]}}\n"
      "  COMPREPLY=()\n"
      "  case $command,$prev in\n",
      identifier(app), subcommand_names(app));
  for (const CLI::App* part : parts_of(app))
    for (const CLI::Option* option : part->get_options())
      if (const std::string words = words_of(*option); !words.empty())
        for (const std::string& name : names_of(*option))
          out += fmt::format(
              "    {},{}) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\"); return ;;\n",
              part == &app ? "" : part->get_name(), name, words);
  out += "  esac\n  case $command in\n";
  for (const CLI::App* part : parts_of(app)) {
    out += fmt::format(
        "    {}) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")\n",
        part == &app ? "''" : part->get_name(), option_names(*part));
    if (part == &app && !app.get_subcommands({}).empty())
      out += fmt::format(
          "      [[ $cur == -* || $COMP_CWORD -ne 1 ]] || mapfile -t COMPREPLY < <(compgen -W '{}' "
          "-- \"$cur\")\n",
          subcommand_names(app));
    out += "      ;;\n";
  }
  return out +
         fmt::format("  esac\n}}\ncomplete -o default -F {} {}\n", identifier(app), app.get_name());
}

std::string fish(const CLI::App& app) {
  std::string out;
  const std::string commands = subcommand_names(app);
  for (const CLI::App* part : parts_of(app)) {
    std::string when;
    if (part != &app)
      when = fmt::format(" -n '__fish_seen_subcommand_from {}'", part->get_name());
    else if (!commands.empty())
      when = fmt::format(" -n 'not __fish_seen_subcommand_from {}'", commands);
    for (const CLI::Option* option : part->get_options()) {
      std::string names;
      for (const std::string& name : option->get_snames()) names += " -s " + name;
      for (const std::string& name : option->get_lnames()) names += " -l " + name;
      if (names.empty()) continue;  // files, which fish completes itself
      const std::string words = words_of(*option);
      out += fmt::format("complete -c {}{}{} -d {}", app.get_name(), when, names,
                         in_quotes(option->get_description()));
      if (!words.empty())
        out += fmt::format(" -x -a '{}'", words);
      else if (option->get_expected_max() > 0)
        out += " -r";
      out += "\n";
    }
    if (part != &app)
      out += fmt::format("complete -c {} -n 'not __fish_seen_subcommand_from {}' -f -a {} -d {}\n",
                         app.get_name(), commands, part->get_name(),
                         in_quotes(part->get_description()));
  }
  return out;
}

// "--name[what it is]:value:(words)" with what zsh reads otherwise escaped.
std::string zsh_spec(const CLI::Option& option, const std::string& name) {
  std::string what;
  for (const char c : option.get_description()) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') what += '\\';
    what += c;
  }
  std::string spec = fmt::format("*{}[{}]", name, what);
  if (option.get_expected_max() > 0) {
    const std::string words = words_of(option);
    spec += words.empty() ? ":value:_files" : fmt::format(":value:({})", words);
  }
  return in_quotes(spec);
}

std::string zsh_arguments(const CLI::App& part) {
  std::string out = "_arguments";
  for (const CLI::Option* option : part.get_options())
    for (const std::string& name : names_of(*option)) out += " " + zsh_spec(*option, name);
  return out + " '*:file:_files'";
}

std::string zsh(const CLI::App& app) {
  std::string out = fmt::format("#compdef {}\n", app.get_name());
  if (app.get_subcommands({}).empty()) return out + zsh_arguments(app) + "\n";
  out += fmt::format(
      "if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then\n  compadd {}\n  return\nfi\n",
      subcommand_names(app));
  out += "case $words[2] in\n";
  for (const CLI::App* command : app.get_subcommands({}))
    out += fmt::format("  {}) shift words; (( CURRENT-- )); {} ;;\n", command->get_name(),
                       zsh_arguments(*command));
  return out + fmt::format("  *) {} ;;\nesac\n", zsh_arguments(app));
}

}  // namespace

std::string completion(const CLI::App& app, std::string_view shell) {
  return shell == "bash" ? bash(app) : shell == "zsh" ? zsh(app) : fish(app);
}

}  // namespace mi::tools
