#include "libsearch/search/gates.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/attention.h"

namespace mi::search {
namespace {

// Recall's 5th percentile over fewer row blocks than these is the worst block.
constexpr int64_t kLeastBlocks = 20;
// Windows of eight tokens that the sample has had before: at most 2 % in the default recipe's
// samples, 37 % in its kind repeat.
constexpr size_t kWindow = 8;
constexpr double kMostRepeated = 0.5;
// Of a held-out sample, what calibration has seen.
constexpr double kMostSeen = 0.5;
// Of what uniform attention loses under a head's mask, the part that the head does not lose: of
// SmolLM2's heads at 15 % of 4096 tokens 0.31 at least, in the median 0.93.
constexpr double kLeastOverUniform = 0.1;
// Lost mass beyond the oracle's: there 0.17 at most; at 12 % one head of 270 has 0.35.
constexpr double kMostRegret = 0.2;
// Masks that are nearly full tell neither.
constexpr double kLeastUniformLost = 0.01;
constexpr size_t kMostNamed = 8;

// Which part of the sample's windows `is_old` is true of.
template <class IsOld>
double part_of_windows(const Sample& sample, const IsOld& is_old) {
  if (sample.ids.size() <= kWindow) return 0;
  const size_t windows = sample.ids.size() - kWindow + 1;
  size_t old = 0;
  for (size_t i = 0; i < windows; ++i)
    old += is_old(std::string_view(reinterpret_cast<const char*>(sample.ids.data() + i),
                                   kWindow * sizeof(sample.ids[0])))
               ? 1
               : 0;
  return static_cast<double>(old) / static_cast<double>(windows);
}

using Windows = std::unordered_set<std::string_view>;

double repeated_part(const Sample& sample) {
  Windows seen;
  return part_of_windows(sample, [&](std::string_view w) { return !seen.insert(w).second; });
}

// Heads that one sign holds for, worst first.
struct Flagged {
  struct Head {
    size_t layer = 0, head = 0;
    double severity = 0;
    std::string why;
  };
  std::vector<Head> heads;

  // "SIGN: layer 3 head 1 (WHY), ..., 7 more"
  void tell(std::string_view sign, std::vector<std::string>& warnings) {
    if (heads.empty()) return;
    std::stable_sort(heads.begin(), heads.end(),
                     [](const Head& a, const Head& b) { return a.severity > b.severity; });
    std::vector<std::string> names;
    for (size_t i = 0; i < std::min(heads.size(), kMostNamed); ++i)
      names.push_back(
          fmt::format("layer {} head {} ({})", heads[i].layer, heads[i].head, heads[i].why));
    if (heads.size() > kMostNamed)
      names.push_back(fmt::format("{} more", heads.size() - kMostNamed));
    warnings.push_back(fmt::format("{}: {}", sign, fmt::join(names, ", ")));
  }
};

}  // namespace

std::vector<std::string> sample_warnings(std::span<const Sample> calibration,
                                         std::span<const Sample> held_out) {
  std::vector<std::string> warnings;
  std::map<std::string_view, const Sample*> first;  // by digest
  std::set<int64_t> lengths, certified;
  const auto look_at = [&](std::span<const Sample> samples, std::string_view use,
                           std::set<int64_t>& found) {
    for (const Sample& sample : samples) {
      const std::string name = fmt::format("\"{}\" of {} tokens", sample.source, sample.length());
      const auto [at, is_new] = first.emplace(sample.sha256, &sample);
      if (!is_new)
        warnings.push_back(fmt::format("{} sample {} has the same tokens as \"{}\"", use, name,
                                       at->second->source));
      const double repeated = repeated_part(sample);
      if (is_new && repeated > kMostRepeated)
        warnings.push_back(fmt::format("sample {} repeats itself: {:.0f} % of it was there before",
                                       name, 100 * repeated));
      found.insert(sample.length());
    }
  };
  look_at(calibration, "calibration", lengths);
  look_at(held_out, "held-out", certified);
  Windows calibrated;
  for (const Sample& sample : calibration)
    part_of_windows(sample, [&](std::string_view w) { return calibrated.insert(w).second; });
  for (const Sample& sample : held_out) {
    const double seen =
        part_of_windows(sample, [&](std::string_view w) { return calibrated.contains(w); });
    if (seen > kMostSeen && first.at(sample.sha256) == &sample)
      warnings.push_back(
          fmt::format("held-out sample \"{}\" of {} tokens: {:.0f} % of it is in calibration",
                      sample.source, sample.length(), 100 * seen));
  }
  for (const int64_t length : lengths) {
    if (length < kLeastBlocks * kernels::kRowBlock)
      warnings.push_back(
          fmt::format("samples of {} tokens are too short: a 5th percentile over row blocks of {} "
                      "needs {} tokens",
                      length, kernels::kRowBlock, kLeastBlocks * kernels::kRowBlock));
    if (!certified.contains(length))
      warnings.push_back(
          fmt::format("no held-out sample has {} tokens: that length is not certified", length));
  }
  return warnings;
}

std::vector<std::string> head_warnings(const ScoreTable& table, const Allocation& allocation) {
  const auto lengths = lengths_of(table);
  const auto samples = static_cast<double>(table.samples.size());
  Flagged uniform, regretful;
  const auto& layers = table.samples.front().layers;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t h = 0; h < layers[l].size(); ++h) {
      double recall = 0, as_uniform = 0, oracle_lost = 0;
      for (const SampleScores& sample : table.samples) {
        const auto t = static_cast<size_t>(
            std::lower_bound(lengths.begin(), lengths.end(), sample.length) - lengths.begin());
        const CandidateScore& score =
            sample.layers[l][h][allocation.chosen[t][l * layers[l].size() + h]];
        recall += score.recall / samples;
        as_uniform += score.uniform_recall / samples;
        oracle_lost += score.oracle_lost / samples;
      }
      if (1 - as_uniform < kLeastUniformLost) continue;
      const double over = (recall - as_uniform) / (1 - as_uniform);
      if (over < kLeastOverUniform)
        uniform.heads.push_back(
            {l, h, -over, fmt::format("recall {:.3f}, uniform {:.3f}", recall, as_uniform)});
      const double regret = 1 - recall - oracle_lost;
      if (regret > kMostRegret)
        regretful.heads.push_back(
            {l, h, regret, fmt::format("recall {:.3f}, oracle {:.3f}", recall, 1 - oracle_lost)});
    }
  }
  std::vector<std::string> warnings;
  uniform.tell("hardly better than uniform attention under the same mask", warnings);
  regretful.tell("far worse than the best keys at the same cost", warnings);
  return warnings;
}

Status check_warnings(std::span<const std::string> warnings, bool strict) {
  if (!strict || warnings.empty()) return {};
  return fail(Code::unsupported,
              fmt::format("strict: found {} warning{}, expected none: {}", warnings.size(),
                          warnings.size() == 1 ? "" : "s", fmt::join(warnings, "; ")));
}

}  // namespace mi::search
