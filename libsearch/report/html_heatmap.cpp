// Layers down, heads across: pattern, recall and cost. Cells are rectangles with a title, so that
// their values are there without the script; it adds the tooltip, the keyboard and the details.
#include <algorithm>
#include <array>
#include <functional>

#include <fmt/format.h>

#include "libsearch/report/html_page.h"

namespace mi::search {
namespace {

// Upper ends of all colours but the last. Steps and not a gradient: each is told from the next,
// and the legend says what it means.
constexpr std::array kRecallSteps = {0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5};  // falling
constexpr std::array kShareSteps = {0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75};

size_t recall_step(double recall) {
  return static_cast<size_t>(std::count_if(kRecallSteps.begin(), kRecallSteps.end(),
                                           [&](double step) { return recall < step; }));
}

size_t share_step(double share) {
  return static_cast<size_t>(std::count_if(kShareSteps.begin(), kShareSteps.end(),
                                           [&](double step) { return share >= step; }));
}

struct Grid {
  int width = 0, height = 0;  // of a cell
  int left = 34, top = 34;    // for the axes
};

Grid grid_of(const runtime::HeadConfig::Model& model) {
  Grid grid;
  grid.width = std::clamp(640 / std::max(model.heads, 1), 12, 30);
  grid.height = std::clamp(720 / std::max(model.layers, 1), 13, 18);
  return grid;
}

struct Map {
  std::string_view id, name, description;
  std::function<std::string(const HeadView&)> colour;  // CSS class
  std::function<std::string(const HeadView&)> label;   // in the cell; at most two characters
  std::string legend;
};

// Every label where there is room, else every fourth.
std::string axes(const Grid& grid, int layers, int heads) {
  const int across = grid.width >= 18 ? 1 : 4;
  const int down = layers <= 40 ? 1 : 4;
  std::string out = fmt::format(
      "<g aria-hidden=\"true\"><text class=\"axis\" x=\"{}\" y=\"11\">head</text><text "
      "class=\"axis\" x=\"0\" "
      "y=\"{}\">layer</text>",
      grid.left, grid.top - 6);
  for (int h = 0; h < heads; h += across)
    out += fmt::format("<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>",
                       grid.left + h * grid.width + grid.width / 2, grid.top - 6, h);
  for (int l = 0; l < layers; l += down)
    out += fmt::format("<text class=\"tick end\" x=\"{}\" y=\"{}\">{}</text>", grid.left - 4,
                       grid.top + l * grid.height + grid.height / 2 + 4, l);
  return out + "</g>";
}

std::string cell_title(const HeadView& view) {
  return fmt::format("L{} H{} {}{}, recall {:.4f}, cost {}", view.layer, view.head,
                     runtime::to_string(view.entry->pattern), view.chosen.empty() ? " edited" : "",
                     view.entry->recall, percent_text(view.share));
}

std::string drawing(const HtmlPage& page, const Map& map) {
  const runtime::HeadConfig::Model& model = page.config.model;
  const Grid grid = grid_of(model);
  const int width = grid.left + model.heads * grid.width + 1;
  const int height = grid.top + model.layers * grid.height + 1;
  const bool labelled = grid.width >= 18 || map.id == "pattern";
  std::string out = fmt::format(
      "<svg class=\"heat\" role=\"img\" aria-labelledby=\"{0}-name {0}-text\" width=\"{1}\" "
      "height=\"{2}\" viewBox=\"0 0 {1} {2}\"><title id=\"{0}-name\">{3} of every head</title>"
      "<desc id=\"{0}-text\">{4}</desc>{5}\n",
      map.id, width, height, map.name, map.description, axes(grid, model.layers, model.heads));
  for (int layer = 0; layer < model.layers; ++layer) {
    out += fmt::format("<g class=\"row\" transform=\"translate({},{})\">", grid.left,
                       grid.top + layer * grid.height);
    std::string labels;
    for (int head = 0; head < model.heads; ++head) {
      const HeadView& view = page.heads[page.index(layer, head)];
      const int x = head * grid.width;
      out += fmt::format(
          "<rect class=\"{}\" x=\"{}\" width=\"{}\" height=\"{}\"{}><title>{}</title></rect>",
          map.colour(view), x, grid.width - 1, grid.height - 1,
          map.id == "pattern" ? fmt::format(" id=\"L{}.H{}\"", layer, head) : "", cell_title(view));
      if (labelled)
        labels += fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>", map.colour(view),
                              x + (grid.width - 1) / 2, grid.height / 2 + 4, map.label(view));
    }
    out += fmt::format("<g aria-hidden=\"true\">{}</g></g>\n", labels);
  }
  return out + "</svg>";
}

std::string key(std::string_view colour, std::string_view inside, std::string_view text) {
  return fmt::format("<li><span class=\"key {}\">{}</span> {}</li>", colour, inside, text);
}

std::string pattern_legend(const HtmlPage& page) {
  std::string out;
  for (size_t p = 0; p < kPatternLetters.size(); ++p) {
    const auto count = std::count_if(page.heads.begin(), page.heads.end(), [&](const auto& view) {
      return pattern_index(view.entry->pattern) == p;
    });
    if (count > 0)
      out +=
          key(fmt::format("p{}", p), std::string(1, kPatternLetters[p]),
              fmt::format("{}: {}", runtime::to_string(static_cast<runtime::Pattern>(p)), count));
  }
  return out;
}

std::string step_legend(std::string_view family, const std::array<double, 7>& steps, bool falling) {
  std::string out;
  const auto number = [](double value) { return html_number(100 * value, 0); };
  for (size_t i = 0; i <= steps.size(); ++i) {
    const std::string text =
        i == 0 ? fmt::format("{} {} %", falling ? "from" : "under", number(steps[0]))
        : i == steps.size()
            ? fmt::format("{} {} %", falling ? "under" : "from", number(steps[i - 1]))
            : fmt::format("{}-{} %", number(std::min(steps[i - 1], steps[i])),
                          number(std::max(steps[i - 1], steps[i])));
    out += key(fmt::format("{}{}", family, i), "", text);
  }
  return out;
}

std::vector<Map> maps_of(const HtmlPage& page) {
  const auto whole = [](double share) {
    return html_number(std::min(99.0, 100 * share), 0);  // 100 does not fit; the title has it
  };
  return {
      {"pattern", "Pattern", "Letters and colours of the patterns are in the legend below.",
       [](const HeadView& view) { return fmt::format("p{}", pattern_index(view.entry->pattern)); },
       [](const HeadView& view) {
         return std::string(1, kPatternLetters[pattern_index(view.entry->pattern)]);
       },
       pattern_legend(page)},
      {"recall", "Recall",
       "Mean attention mass kept, in percent. The lower, the stronger the colour.",
       [](const HeadView& view) { return fmt::format("r{}", recall_step(view.entry->recall)); },
       [whole](const HeadView& view) { return whole(view.entry->recall); },
       step_legend("r", kRecallSteps, true)},
      {"cost", "Cost share", "Mean executed share of dense attention, in percent.",
       [](const HeadView& view) { return fmt::format("s{}", share_step(view.share)); },
       [whole](const HeadView& view) { return whole(view.share); },
       step_legend("s", kShareSteps, false)},
  };
}

constexpr std::string_view kWords = R"(<details><summary>Words</summary>
<dl class="words">
<dt>recall</dt><dd>The part of the attention mass that lies on the keys a head attends.</dd>
<dt>sink</dt><dd>The first keys of the prompt, as many as said: attended by every row.</dd>
<dt>local</dt><dd>The keys just before a block of rows, as many as said: always attended.</dd>
<dt>density</dt><dd>The threshold: a key is attended where the mass that 64 rows together are estimated to give it, of the 64 they have, exceeds this.</dd>
<dt>share</dt><dd>The most a head may cost, relative to dense attention; the heads of a layer spend their shares together.</dd>
<dt>oracle</dt><dd>A selection by the true attention mass at the same cost: no estimate does better.</dd>
<dt>regret</dt><dd>The recall that the oracle would add.</dd>
</dl></details>
)";

}  // namespace

std::string html_heatmaps(const HtmlPage& page) {
  std::string out =
      "<section aria-labelledby=\"heads-name\">\n<h2 id=\"heads-name\">Every head</h2>\n"
      "<p>Layers down, heads across. <span class=\"live\" hidden>Click a cell, or move with the "
      "arrow keys and press Enter, for its details.</span></p>\n<div class=\"maps\">\n";
  for (const Map& map : maps_of(page))
    out += fmt::format(
        "<figure><figcaption><h3>{}</h3><p>{}</p></figcaption>\n<div class=\"wide\" tabindex=\"0\" "
        "role=\"region\" aria-label=\"{} heatmap\">{}</div>\n<ul class=\"legend\">{}</ul>"
        "</figure>\n",
        map.name, map.description, map.name, drawing(page, map), map.legend);
  out += "</div>\n";
  out += kWords;
  const auto edited = std::count_if(page.heads.begin(), page.heads.end(),
                                    [](const HeadView& view) { return view.chosen.empty(); });
  if (edited > 0)
    out += fmt::format(
        "<p class=\"note\">{} of the heads were edited: their parameters are not among the "
        "candidates that were scored. Their recall is what the config says, their cost its "
        "caps.</p>\n",
        edited);
  return out + "</section>\n";
}

}  // namespace mi::search
