#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/search/frontier.h"
#include "tools/mi-bench/commands.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

using search::FrontierEntry;

std::string table(const std::vector<FrontierEntry>& entries) {
  std::string text =
      fmt::format("{:>6} {:>6}  {:<20} {:>8} {:>9} {:>9} {:>8} {:>7} {:>9}\n", "tokens", "limit",
                  "method", "executed", "lost mass", "squared", "KL", "top-1", "ppl");
  for (const FrontierEntry& entry : entries) {
    text += fmt::format("{:>6} {:>5.0f}%  {:<20} ", entry.length, 100 * entry.limit, entry.method);
    if (!entry.verdict) {
      text += "infeasible\n";
      continue;
    }
    const search::SampleVerdict& v = *entry.verdict;
    text += fmt::format("{:>7.2f}% {:>9.4f} {:>9.5f} {:>8.4f} {:>7.4f} {:>+8.2f}%\n", 100 * v.share,
                        1 - v.recall, v.lost_square, v.kl, v.top1,
                        100 * (std::exp(v.sparse_nll - v.dense_nll) - 1));
  }
  return text;
}

std::string json_of(const std::vector<FrontierEntry>& entries) {
  auto rows = nlohmann::json::array();
  for (const FrontierEntry& entry : entries) {
    nlohmann::json row = {
        {"tokens", entry.length}, {"limit", entry.limit}, {"method", entry.method}};
    row["feasible"] = entry.verdict.has_value();
    if (entry.verdict) {
      const search::SampleVerdict& v = *entry.verdict;
      row.update({{"executed", v.share},
                  {"lost_mass", 1 - v.recall},
                  {"squared_loss", v.lost_square},
                  {"output_error", v.output_error},
                  {"kl", v.kl},
                  {"top1", v.top1},
                  {"dense_nll", v.dense_nll},
                  {"sparse_nll", v.sparse_nll}});
    }
    rows.push_back(std::move(row));
  }
  return rows.dump(2) + "\n";
}

Result<std::vector<FrontierEntry>> measure(const BenchOptions& options) {
  search::SearchOptions search_options;
  MI_TRY(search_options.compute, compute_options(options));
  MI_TRY(const auto model, open_with_tokenizer(options));
  MI_TRY(
      const search::Recipe recipe,
      search::load_recipe(options.recipe.empty() ? MI_CALIB_DATA "/default.yaml" : options.recipe));
  std::vector<double> limits;
  for (const std::string& text : options.limits) {
    MI_TRY(const double limit, search::parse_budget(text));
    limits.push_back(limit);
  }
  constexpr search::Objective kObjectives[] = {search::Objective::error, search::Objective::square,
                                               search::Objective::mass};
  std::vector<FrontierEntry> all;
  for (const int64_t length : options.lengths) {
    std::vector<search::Sample> samples[2];
    for (const auto* specs : {&recipe.calibration, &recipe.held_out})
      for (const auto& spec : *specs) {
        MI_TRY(auto sample, search::make_sample(spec, length, options.seed, *model->tokenizer()));
        samples[specs == &recipe.held_out ? 1 : 0].push_back(std::move(sample));
      }
    Progress progress;
    MI_TRY(auto entries,
           search::frontier(
               *model, samples[0], samples[1], limits, kObjectives, search_options,
               [&](std::string_view stage, double fraction) { progress.update(stage, fraction); }));
    all.insert(all.end(), entries.begin(), entries.end());
  }
  return all;
}

}  // namespace

int run_frontier(const BenchOptions& options) {
  const auto entries = measure(options);
  if (!entries) return report(kBench, entries.error());
  return report(kBench, print_result(options.json ? json_of(*entries) : table(*entries)));
}

}  // namespace mi::tools
