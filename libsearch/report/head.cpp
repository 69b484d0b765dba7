#include "libsearch/report/head.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "libsearch/report/chosen.h"
#include "libsearch/report/paint.h"
#include "libsearch/report/pareto_curve.h"
#include "libsearch/report/picture.h"

namespace mi::search {
namespace {

constexpr int kChartRows = 14;
constexpr int kLeastColumns = 20;
constexpr int kMostColumns = 72;

// Recall over cost, cost on a log scale: patterns differ most where they are cheapest.
class Picture {
 public:
  Picture(const std::vector<HeadFigures>& candidates, int columns) : columns_(columns) {
    for (const HeadFigures& candidate : candidates) {
      if (candidate.share > 0) left_ = std::min(left_, candidate.share);
      bottom_ = std::min(bottom_, candidate.recall);
    }
    bottom_ = std::floor(bottom_ * 20) / 20;
    rows_.assign(kChartRows, std::string(static_cast<size_t>(columns), ' '));
    for (const HeadFigures& candidate : candidates) {
      const bool beaten =
          std::any_of(candidates.begin(), candidates.end(), [&](const HeadFigures& other) {
            return other.share <= candidate.share && other.recall >= candidate.recall &&
                   (other.share < candidate.share || other.recall > candidate.recall);
          });
      char& mark = at(candidate);
      if (mark != '+') mark = beaten ? '.' : '+';
    }
  }

  void choose(const HeadFigures& candidate) { at(candidate) = '@'; }

  [[nodiscard]] std::string text() const {
    std::string out;
    for (int row = 0; row < kChartRows; ++row) {
      const double recall = 1 - (1 - bottom_) * row / (kChartRows - 1);
      std::string line = fmt::format("  {:.3f} |{}", recall, rows_[static_cast<size_t>(row)]);
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
    }
    out += fmt::format("{:8}+{}\n", "", std::string(static_cast<size_t>(columns_), '-'));
    return out + fmt::format("{:9}{:<{}}{}\n", "", percent_text(left_), columns_ - 8, "100.00 %");
  }

 private:
  char& at(const HeadFigures& candidate) {
    const double share = std::clamp(candidate.share, left_, 1.0);
    const double x = left_ < 1 ? std::log(share / left_) / -std::log(left_) : 1;
    const double y = bottom_ < 1 ? (1 - candidate.recall) / (1 - bottom_) : 0;
    const auto row = static_cast<size_t>(std::lround(std::clamp(y, 0.0, 1.0) * (kChartRows - 1)));
    return rows_[row][static_cast<size_t>(std::lround(x * (columns_ - 1)))];
  }

  int columns_;
  double left_ = 1, bottom_ = 1;
  std::vector<std::string> rows_;
};

std::string figures_row(std::string_view name, size_t width, const HeadFigures& figures) {
  return fmt::format("{:<{}}{:>9.4f}{:>9.4f}{:>9.4f}{:>11.4f}{:>10}{:>9.4f}\n", name, width,
                     figures.recall, figures.recall_p05, figures.recall_min, figures.recall_last,
                     percent_text(figures.share), figures.regret);
}

std::string name_of(const ScoreReport& report, size_t candidate) {
  const CandidateId id = candidate_id(report.space, candidate);
  return report.space.families[id.family].describe(id.index);
}

// Where another candidate keeps more mass at no more cost: what the objective, the output error,
// saw in the chosen one.
std::string better_recall(const ScoreReport& report, const std::vector<HeadFigures>& candidates,
                          size_t chosen) {
  const HeadFigures& own = candidates[chosen];
  size_t best = chosen;
  for (size_t c = 0; c + 1 < candidates.size(); ++c)  // the last is dense
    if (candidates[c].share <= own.share && candidates[c].recall > candidates[best].recall)
      best = c;
  constexpr double kNoticed = 0.005;
  if (candidates[best].recall < own.recall + kNoticed) return "";
  return fmt::format(
      "More recall at no more cost: {:.4f} by\n  {}.\n"
      "Its output error is {:.3g}, that of the chosen one {:.3g}.\n",
      candidates[best].recall, name_of(report, best), candidates[best].error, own.error);
}

// All candidates of a head at a length.
std::vector<HeadFigures> figures_at(const ScoreReport& report, HeadPlace place, int64_t length) {
  std::vector<HeadFigures> candidates;
  for (size_t c = 0; c < report.space.candidates(); ++c)
    candidates.push_back(figures_of(report.table.samples, length, place, c));
  return candidates;
}

// The length at which a family has no candidate that costs no more than the chosen one and has no
// more error; none where it is as good at all of them.
std::optional<int64_t> worse_at(const ScoreReport& report, HeadPlace place, size_t family,
                                const ChosenCandidates& chosen) {
  const auto lengths = lengths_of(report.table);
  for (size_t t = 0; t < lengths.size(); ++t) {
    const auto candidates = figures_at(report, place, lengths[t]);
    const HeadFigures& own = candidates[chosen[t]];
    bool found = false;
    for (size_t c = 0; c + 1 < candidates.size(); ++c)
      found = found || (candidate_id(report.space, c).family == family &&
                        candidates[c].share <= own.share && candidates[c].error <= own.error);
    if (!found) return lengths[t];
  }
  return std::nullopt;
}

// Where another candidate has less output error at no more cost: why it was not chosen.
std::string less_error(const ScoreReport& report, const std::vector<HeadFigures>& candidates,
                       HeadPlace place, const ChosenCandidates& chosen, size_t t) {
  const HeadFigures& own = candidates[chosen[t]];
  size_t best = chosen[t];
  for (size_t c = 0; c + 1 < candidates.size(); ++c)
    if (candidates[c].share <= own.share && candidates[c].error < candidates[best].error) best = c;
  constexpr double kNoticed = 0.95;
  if (best == chosen[t] || candidates[best].error > kNoticed * own.error) return "";
  std::string out =
      fmt::format("Less output error at no more cost: {:.3g} (chosen: {:.3g}) by\n  {}.\n",
                  candidates[best].error, own.error, name_of(report, best));
  const size_t family = candidate_id(report.space, best).family;
  if (const auto length = worse_at(report, place, family, chosen))
    return out + fmt::format(
                     "A head runs one family at all lengths, and at {} tokens that one has no\n"
                     "candidate as good at no more cost.\n",
                     *length);
  return out + "These are means: the limit holds for every sample by itself.\n";
}

// The length asked for, else that at which the chosen candidate keeps least, else the longest.
size_t charted(const ScoreReport& report, HeadPlace place, const ChosenCandidates& chosen,
               std::optional<int64_t> length) {
  const auto lengths = lengths_of(report.table);
  size_t found = lengths.size() - 1;
  if (length)
    return static_cast<size_t>(std::find(lengths.begin(), lengths.end(), *length) -
                               lengths.begin());
  const auto recall = [&](size_t t) {
    return figures_of(report.table.samples, lengths[t], place, chosen[t]).recall;
  };
  for (size_t t = 0; t < chosen.size(); ++t)
    if (recall(t) < recall(found)) found = t;
  return found;
}

}  // namespace

std::string head_text(const ScoreReport& report, const runtime::HeadConfig& config, HeadPlace place,
                      TextStyle style, std::optional<int64_t> length) {
  const Painter painter(style.colour);
  const runtime::HeadEntry& entry = entry_at(config, place);
  const auto lengths = lengths_of(report.table);
  const ChosenCandidates chosen = chosen_candidates(report, entry);
  std::string out = fmt::format(
      "{} of {}\n{}", painter.bold(fmt::format("layer {} head {}", place.layer, place.head)),
      printable(config.model.name), to_string(entry.pattern));
  const std::string parameters = parameters_text(entry);
  out += fmt::format("{}{}\n\n", parameters.empty() ? "" : ", ", parameters);
  if (chosen.empty()) {
    out += "At some length these parameters are none of the report's candidates: no figures.\n\n";
  } else {
    size_t width = 14;
    for (const runtime::SampleNote& note : report.samples)
      width = std::max(width, printable(note.source).size() + 2);
    constexpr int kFigures = 57;
    width = std::min(width, static_cast<size_t>(std::max(14, style.width - kFigures)));
    out += fmt::format("{:<{}}{:>9}{:>18}\n", "", width, "", "of row blocks:");
    out += fmt::format("{:<{}}{:>9}{:>9}{:>9}{:>11}{:>10}{:>9}\n", "", width, "recall", "p05",
                       "worst", "last rows", "cost", "regret");
    for (size_t t = 0; t < lengths.size(); ++t) {
      out += figures_row(fmt::format("{} tokens", lengths[t]), width,
                         figures_of(report.table.samples, lengths[t], place, chosen[t]));
      for (size_t s = 0; s < report.samples.size(); ++s) {
        if (report.table.samples[s].length != lengths[t]) continue;
        out += figures_row(cut_text("  " + printable(report.samples[s].source), width), width,
                           figures_of({&report.table.samples[s], 1}, lengths[t], place, chosen[t]));
      }
    }
    out +=
        "Of the candidate as scored: caps (share) are spent by the whole layer.\n"
        "Regret: recall that the best keys of equal cost would add.\n\n";
  }
  const size_t t = charted(report, place, chosen, length);
  const auto candidates = figures_at(report, place, lengths[t]);
  Picture picture(candidates, std::clamp(style.width - 12, kLeastColumns, kMostColumns));
  if (!chosen.empty()) picture.choose(candidates[chosen[t]]);
  out += fmt::format("{} at {} tokens: recall over cost\n{}", painter.bold("Candidates"),
                     lengths[t], picture.text());
  out += (chosen.empty() ? "" : "  @ chosen ");
  out += "  + none is better at its cost   . others\n";
  if (!chosen.empty()) out += better_recall(report, candidates, chosen[t]);
  if (!chosen.empty() && objective_of(config) == Objective::error)
    out += less_error(report, candidates, place, chosen, t);
  const std::string picture_of_mass = picture_text(report, config, place, style.width);
  return picture_of_mass.empty() ? out : out + "\n" + picture_of_mass;
}

}  // namespace mi::search
