// What a head-config says, for a person at a terminal and as JSON for machines: drawn from the
// config alone, so that mi-search after a search and mi-inspect from a file print the same.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "libruntime/config.h"

namespace mi::search {

struct TextStyle {
  int width = 100;      // columns of the terminal; lines are cut to it, numbers never
  bool colour = false;  // ANSI colours
};

// Headline, limit and what was achieved, pattern mix per layer, recall, worst heads, warnings,
// certificate.
[[nodiscard]] std::string show_table(const runtime::HeadConfig& config, TextStyle style);
// One line per head.
[[nodiscard]] std::string heads_table(const runtime::HeadConfig& config, TextStyle style);

// The same facts as one JSON object, indented, with a final newline.
[[nodiscard]] std::string show_json(const runtime::HeadConfig& config);
[[nodiscard]] std::string heads_json(const runtime::HeadConfig& config);

// Heads by recall, worst first; of equals the one of the lowest layer and head.
struct HeadPlace {
  int layer = 0;
  int head = 0;
};
[[nodiscard]] std::vector<HeadPlace> worst_heads(const runtime::HeadConfig& config, size_t most);
// "sink 16, local 128, density 0.012/0.004": values per calibrated length divided by '/'.
[[nodiscard]] std::string parameters_text(const runtime::HeadEntry& head);

}  // namespace mi::search
