#include "libsearch/report/chosen.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

namespace mi::search {
namespace {

using runtime::HeadEntry;
using runtime::PerLength;

std::optional<double> value_at(const PerLength& values, int64_t length) {
  auto at = values.find(length);
  if (at == values.end()) at = values.find(0);
  if (at == values.end()) return std::nullopt;
  return at->second;
}

// Shares are left out: as caps they are the whole layer's, not the candidate's.
bool same_values(const HeadEntry& a, const HeadEntry& b, int64_t length) {
  constexpr std::array kValues = {&HeadEntry::local, &HeadEntry::density, &HeadEntry::vertical,
                                  &HeadEntry::slash, &HeadEntry::blocks};
  for (const auto values : kValues)
    if (value_at(a.*values, length) != value_at(b.*values, length)) return false;
  return true;
}

bool same_estimate(const HeadEntry& a, const HeadEntry& b) {
  return a.pattern == b.pattern && a.estimate == b.estimate && a.sink == b.sink &&
         (a.estimate == runtime::BlockEstimate::pooled || a.stride == b.stride);
}

// The family's candidates that the entry names; empty unless it names one at every length.
ChosenCandidates within_family(const Family& family, size_t first, const HeadEntry& entry,
                               const std::vector<int64_t>& lengths) {
  if (!same_estimate(family.entry(), entry)) return {};
  ChosenCandidates chosen;
  for (const int64_t length : lengths) {
    for (size_t c = 0; c < family.values.size(); ++c) {
      HeadEntry made = family.entry();
      family.set_values(made, c, length);
      if (!same_values(made, entry, length)) continue;
      chosen.push_back(first + c);
      break;
    }
  }
  return chosen.size() == lengths.size() ? chosen : ChosenCandidates();
}

ChosenCandidates chosen_of(const CandidateSpace& space, const HeadEntry& entry,
                           const std::vector<int64_t>& lengths) {
  if (entry.pattern == runtime::Pattern::dense)
    return ChosenCandidates(lengths.size(), space.candidates() - 1);
  size_t first = 0;
  for (const Family& family : space.families) {
    auto chosen = within_family(family, first, entry, lengths);
    if (!chosen.empty()) return chosen;
    first += family.values.size();
  }
  return {};
}

std::string text_of(const runtime::SampleNote& note) {
  return fmt::format("{} of {} tokens ({:.8})", note.source, note.tokens, note.sha256);
}

}  // namespace

ChosenCandidates chosen_candidates(const ScoreReport& report, const HeadEntry& entry) {
  return chosen_of(report.space, entry, lengths_of(report.table));
}

std::vector<std::vector<ChosenCandidates>> chosen_candidates(const ScoreReport& report,
                                                             const runtime::HeadConfig& config) {
  const auto lengths = lengths_of(report.table);
  std::vector<std::vector<ChosenCandidates>> chosen;
  for (const auto& heads : config.layers) {
    auto& layer = chosen.emplace_back();
    for (const HeadEntry& entry : heads) layer.push_back(chosen_of(report.space, entry, lengths));
  }
  return chosen;
}

HeadFigures figures_of(std::span<const SampleScores> samples, int64_t length, HeadPlace place,
                       size_t candidate) {
  HeadFigures mean;
  double count = 0;
  for (const SampleScores& sample : samples) {
    if (sample.length != length) continue;
    const CandidateScore& score =
        sample.layers[static_cast<size_t>(place.layer)][static_cast<size_t>(place.head)][candidate];
    ++count;
    mean.recall += score.recall;
    mean.recall_p05 = std::min(mean.recall_p05, score.recall_p05);
    mean.recall_min = std::min(mean.recall_min, score.recall_min);
    mean.recall_last += score.recall_last;
    mean.share += score.share;
    mean.regret += 1 - score.recall - score.oracle_lost;
    mean.error += score.error;
  }
  for (double* sum : {&mean.recall, &mean.recall_last, &mean.share, &mean.regret, &mean.error})
    *sum /= count;
  return mean;
}

Status check_same_model(const runtime::HeadConfig& config, std::string_view config_file,
                        const runtime::HeadConfig::Model& model, std::string_view model_file) {
  if (config.model.fingerprint == model.fingerprint && config.model.layers == model.layers &&
      config.model.heads == model.heads)
    return {};
  const auto text = [](const runtime::HeadConfig::Model& m) {
    return fmt::format("{} ({:.15}), {} layers x {} heads", m.name, m.fingerprint, m.layers,
                       m.heads);
  };
  return fail(Code::schema, fmt::format("{}: model: found {}, expected {} as in {}", config_file,
                                        text(config.model), text(model), model_file));
}

Status check_same_scores(const ScoreReport& report, std::string_view report_file,
                         const runtime::HeadConfig& config, std::string_view config_file) {
  const auto refuse = [&](std::string_view what, const std::string& found,
                          const std::string& expected) {
    return fail(Code::schema, fmt::format("{}: {}: found {}, expected {} as in {}", config_file,
                                          what, found, expected, report_file));
  };
  MI_CHECK(check_same_model(config, config_file, report.model, report_file));
  const auto& found = config.calibration.samples;
  if (found.size() != report.samples.size())
    return refuse("calibration", fmt::format("{} samples", found.size()),
                  fmt::format("{}", report.samples.size()));
  for (size_t s = 0; s < found.size(); ++s)
    if (!(found[s] == report.samples[s]))
      return refuse(fmt::format("calibration sample {}", s), text_of(found[s]),
                    text_of(report.samples[s]));
  return {};
}

}  // namespace mi::search
