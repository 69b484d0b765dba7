// What describes a tool to man and to shells, drawn from the options that it parses.
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace mi::tools {

// A page of section 1, in troff's man macros.
[[nodiscard]] std::string man_page(const CLI::App& app);

// A script that completes subcommands, options and the words that an option takes; elsewhere files.
// shell: bash, zsh or fish.
[[nodiscard]] std::string completion(const CLI::App& app, std::string_view shell);

}  // namespace mi::tools
