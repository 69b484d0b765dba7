// The page's data for its script: every number once, rounded to what can be seen.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/report/html_page.h"
#include "libsearch/report/paint.h"
#include "libsearch/report/picture.h"

namespace mi::search {
namespace {

// A name from a file cannot end the script: "</" is written as an escape of the same text.
std::string json_text(std::string_view text) {
  std::string out;
  for (const char c : nlohmann::json(printable(text)).dump())
    out += c == '<' ? "\\u003c" : std::string(1, c);
  return out;
}

template <class Range, class Fn>
std::string list(const Range& range, Fn&& item) {
  std::string out = "[";
  for (const auto& value : range) {
    if (out.size() > 1) out += ',';
    out += item(value);
  }
  return out + "]";
}

// Errors span ten orders of magnitude.
std::string three_digits(double value) {
  return nlohmann::json(std::stod(fmt::format("{:.3g}", value))).dump();
}

std::string family_text(const Family& family) {
  runtime::HeadEntry entry = family.entry();
  std::string parameters = parameters_text(entry);
  if (family.params.counts) parameters = "published counts";
  return fmt::format("{}{}{}", runtime::to_string(entry.pattern), parameters.empty() ? "" : ", ",
                     parameters);
}

std::string families(const CandidateSpace& space) {
  const auto one = [](const std::string& name, runtime::Pattern pattern, size_t count) {
    return fmt::format("[{},{},{}]", json_text(name), pattern_index(pattern), count);
  };
  std::string out = "[";
  for (const Family& family : space.families)
    out += one(family_text(family), family.params.pattern, family.values.size()) + ",";
  return out + one("dense", runtime::Pattern::dense, 1) + "]";
}

std::string figures_text(const HeadFigures& f) {
  return fmt::format("[{},{},{},{},{},{},{}]", html_number(f.recall, 4),
                     html_number(f.recall_p05, 4), html_number(f.recall_min, 4),
                     html_number(f.recall_last, 4), html_number(f.share, 5),
                     html_number(f.regret, 4), three_digits(f.error));
}

std::string head_data(const HeadView& view) {
  return fmt::format("[{},{},{},{},{},{}]", pattern_index(view.entry->pattern),
                     html_number(view.entry->recall, 4), html_number(view.share, 5),
                     json_text(parameters_text(*view.entry)),
                     list(view.chosen, [](size_t candidate) { return std::to_string(candidate); }),
                     list(view.figures, figures_text));
}

// Mean cost and error of every candidate at a length, two flat arrays.
std::string cloud_at(const HtmlPage& page, const HeadView& view, int64_t length) {
  const size_t candidates = page.report.space.candidates();
  std::vector<double> share(candidates), error(candidates);
  double samples = 0;
  for (const SampleScores& sample : page.report.table.samples) {
    if (sample.length != length) continue;
    ++samples;
    const auto& scores =
        sample.layers[static_cast<size_t>(view.layer)][static_cast<size_t>(view.head)];
    for (size_t c = 0; c < candidates; ++c) {
      share[c] += scores[c].share;
      error[c] += scores[c].error;
    }
  }
  return fmt::format("[{},{}]",
                     list(share, [&](double sum) { return html_number(sum / samples, 5); }),
                     list(error, [&](double sum) { return three_digits(sum / samples); }));
}

// [source, tokens, cells, {head: [mass, taken, lost]}]; of a head that runs otherwise than it did
// when it was drawn, mass alone.
std::string pictures_text(const HtmlPage& page) {
  const HeadPictures& pictures = *page.report.pictures;
  std::string heads;
  for (const size_t i : page.drawn) {
    const HeadPlace place{page.heads[i].layer, page.heads[i].head};
    std::vector<HeadPictures::Plane> planes = {HeadPictures::mass};
    if (is_drawn_as(pictures, page.config, place))
      planes.insert(planes.end(), {HeadPictures::taken, HeadPictures::lost});
    heads += fmt::format("{}\"{}\":{}", heads.empty() ? "" : ",", i,
                         list(planes, [&](HeadPictures::Plane plane) {
                           return json_text(picture_base64(pictures, place, plane));
                         }));
  }
  return fmt::format("[{},{},{},{{{}}}]", json_text(pictures.source), pictures.tokens,
                     pictures.cells, heads);
}

}  // namespace

std::string html_data(const HtmlPage& page) {
  constexpr int kPatterns = static_cast<int>(kPatternLetters.size());
  std::string patterns = "[";
  for (int p = 0; p < kPatterns; ++p)
    patterns += fmt::format("{}{}", p == 0 ? "" : ",",
                            json_text(runtime::to_string(static_cast<runtime::Pattern>(p))));
  std::string out = fmt::format(
      "{{\"columns\":{},\"lengths\":{},\"patterns\":{}],\"families\":{},\"heads\":{},\"clouds\":{{",
      page.report.model.heads,
      list(page.lengths, [](int64_t length) { return std::to_string(length); }), patterns,
      families(page.report.space), list(page.heads, head_data));
  for (size_t i = 0; i < page.clouds.size(); ++i)
    out += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", page.clouds[i],
                       list(page.lengths, [&](int64_t length) {
                         return cloud_at(page, page.heads[page.clouds[i]], length);
                       }));
  out += "}";
  if (page.report.pictures) out += ",\"pictures\":" + pictures_text(page);
  return out + "}";
}

}  // namespace mi::search
