#include "libsearch/report/html_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "libsearch/report/paint.h"

namespace mi::search {
namespace {

// 216 candidates of a head are 5 kB at two lengths.
constexpr size_t kAllClouds = 400;
// Pictures of a head are 8 kB.
constexpr size_t kWorst = 64;

double mean_share(const HtmlPage& page, const HeadView& view) {
  double sum = 0;
  if (view.chosen.empty()) {
    for (const auto& [length, share] : view.entry->share) sum += share;
    return view.entry->share.empty() ? 0 : sum / static_cast<double>(view.entry->share.size());
  }
  for (const SampleScores& sample : page.report.table.samples)
    for (size_t t = 0; t < page.lengths.size(); ++t)
      if (page.lengths[t] == sample.length) sum += view.figures[t].share;
  return sum / static_cast<double>(page.report.table.samples.size());
}

// The worst heads, as many as asked for, and those that the user named.
std::vector<size_t> worst_and_named(const HtmlPage& page, size_t count) {
  std::vector<size_t> found;
  const auto add = [&](HeadPlace place) { found.push_back(page.index(place.layer, place.head)); };
  for (const HeadPlace place : worst_heads(page.config, count)) add(place);
  for (const HeadPlace place : page.options.heads) add(place);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace

HtmlPage make_page(const ScoreReport& report, const runtime::HeadConfig& config,
                   const HtmlOptions& options) {
  HtmlPage page{report, config, options, lengths_of(report.table), {}, {}, {}};
  const auto chosen = chosen_candidates(report, config);
  for (size_t layer = 0; layer < chosen.size(); ++layer) {
    for (size_t head = 0; head < chosen[layer].size(); ++head) {
      HeadView view{.layer = static_cast<int>(layer),
                    .head = static_cast<int>(head),
                    .entry = &config.layers[layer][head],
                    .chosen = chosen[layer][head],
                    .figures = {}};
      for (size_t t = 0; t < view.chosen.size(); ++t)
        view.figures.push_back(figures_of(report.table.samples, page.lengths[t],
                                          {view.layer, view.head}, view.chosen[t]));
      view.share = mean_share(page, view);
      page.heads.push_back(std::move(view));
    }
  }
  page.clouds = worst_and_named(page, page.heads.size() <= kAllClouds ? page.heads.size() : kWorst);
  if (report.pictures) page.drawn = worst_and_named(page, kWorst);
  return page;
}

size_t pattern_index(runtime::Pattern pattern) {
  return static_cast<size_t>(pattern);
}

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string html_table(std::string_view label) {
  return fmt::format(
      "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
      label);
}

std::string html_number(double value, int digits) {
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string html_header(std::string_view content, std::string_view scope) {
  return fmt::format("<th scope=\"{}\">{}</th>", scope, content);
}

std::string html_cell(std::string_view content) {
  return fmt::format("<td>{}</td>", content);
}

}  // namespace mi::search
