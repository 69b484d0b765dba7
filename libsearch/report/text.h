// What a head-config says, for a person at a terminal and as JSON for machines: drawn from the
// config alone, so that mi-search after a search and mi-inspect from a file print the same.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "libruntime/config.h"
#include "libsearch/report/heads.h"

namespace mi::search {

inline constexpr int kUncut = 1 << 20;
struct TextStyle {
  int width = 100;      // columns of the terminal; lines are cut to it, numbers never
  bool colour = false;  // ANSI colours
};

// Headline, limit and what was achieved, pattern mix per layer, recall, worst heads, warnings,
// certificate.
[[nodiscard]] std::string show_table(const runtime::HeadConfig& config, TextStyle style);
// One line per head.
[[nodiscard]] std::string heads_table(const runtime::HeadConfig& config,
                                      const std::vector<HeadPlace>& places, TextStyle style);
// Two configs of one shape: their figures side by side, how many heads run otherwise, and these
// heads of both.
[[nodiscard]] std::string diff_table(const runtime::HeadConfig& a, const runtime::HeadConfig& b,
                                     const std::vector<HeadPlace>& places, TextStyle style);

// The same facts as one JSON object, indented, with a final newline.
[[nodiscard]] std::string show_json(const runtime::HeadConfig& config);
[[nodiscard]] std::string heads_json(const runtime::HeadConfig& config,
                                     const std::vector<HeadPlace>& places);
[[nodiscard]] std::string diff_json(const runtime::HeadConfig& a, const runtime::HeadConfig& b,
                                    const std::vector<HeadPlace>& places);

// "14.97 %".
[[nodiscard]] std::string percent_text(double share);
// "14.97 % at 4096, 14.66 % at 8192", or "not measured".
[[nodiscard]] std::string shares_by_length(const std::map<int64_t, double>& shares);

}  // namespace mi::search
