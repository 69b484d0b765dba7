// What the parts of the HTML page share: the figures of every head, worked out once, and text.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "libsearch/report/chosen.h"
#include "libsearch/report/html.h"

namespace mi::search {

struct HeadView {
  int layer = 0;
  int head = 0;
  const runtime::HeadEntry* entry = nullptr;
  ChosenCandidates chosen;           // empty: edited by hand
  std::vector<HeadFigures> figures;  // [length] of the chosen candidates
  double share = 0;                  // mean over samples; of an edited head, of its caps
};

struct HtmlPage {
  const ScoreReport& report;
  const runtime::HeadConfig& config;
  HtmlOptions options;
  std::vector<int64_t> lengths;
  std::vector<HeadView> heads;  // layer by layer
  std::vector<size_t> clouds;   // of `heads`, rising: those whose candidates are in the file
  std::vector<size_t> drawn;    // likewise: those whose pictures are
  [[nodiscard]] size_t index(int layer, int head) const {
    return static_cast<size_t>(layer) * static_cast<size_t>(report.model.heads) +
           static_cast<size_t>(head);
  }
};

[[nodiscard]] HtmlPage make_page(const ScoreReport& report, const runtime::HeadConfig& config,
                                 const HtmlOptions& options);

// By runtime::Pattern: what a cell of the heatmap says, so that colour is not all that tells.
inline constexpr std::array<char, 6> kPatternLetters = {'D', 'A', 'V', 'B', 'S', 'X'};
[[nodiscard]] size_t pattern_index(runtime::Pattern pattern);

// Printable and escaped, for text and attributes in quotes.
[[nodiscard]] std::string html_text(std::string_view text);
// Rounded to so many digits after the point, without zeros at the end.
[[nodiscard]] std::string html_number(double value, int digits);
// <th scope="..."> and <td> of what is HTML already.
[[nodiscard]] std::string html_header(std::string_view content, std::string_view scope = "col");
[[nodiscard]] std::string html_cell(std::string_view content);

// A table that scrolls by itself where it is too wide, up to its header cells; the header ends with
// </tr></thead><tbody>.
[[nodiscard]] std::string html_table(std::string_view label);
inline constexpr std::string_view kHtmlTableEnd = "</tbody></table></div>\n";

// The parts, each a <section> or what stands in one.
[[nodiscard]] std::string html_headline(const HtmlPage& page);
[[nodiscard]] std::string html_heatmaps(const HtmlPage& page);
[[nodiscard]] std::string html_pareto(const HtmlPage& page);
[[nodiscard]] std::string html_worst(const HtmlPage& page);
[[nodiscard]] std::string html_profile(const HtmlPage& page);  // by length and by layer
[[nodiscard]] std::string html_making(const HtmlPage& page);   // samples, tools, options
// JSON for the script, safe inside <script>.
[[nodiscard]] std::string html_data(const HtmlPage& page);

// report.css and report.js.
[[nodiscard]] std::string_view html_style();
[[nodiscard]] std::string_view html_script();

}  // namespace mi::search
