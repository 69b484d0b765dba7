#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/search/planned_attention.h"
#include "libsearch/search/verify.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-search/progress.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

struct NeedleScore {
  int64_t length = 0;
  int questions = 0;
  int dense_right = 0;
  int sparse_right = 0;
  double dense_logp = 0;  // of the answer, mean
  double sparse_logp = 0;
  double share = 0;
};

// Seeds far from those of any recipe, so that no calibration has seen the question.
constexpr uint64_t kFirstSeed = 1'000'000;

Result<std::vector<NeedleScore>> measure(const BenchOptions& options) {
  MI_TRY(const search::ComputeOptions compute, compute_options(options));
  MI_TRY(const auto config, runtime::load_config(options.config));
  MI_TRY(const auto model, open_with_tokenizer(options));
  MI_CHECK(search::check_config_model(config, model->spec(), options.config));
  MI_TRY(
      const search::Recipe recipe,
      search::load_recipe(options.recipe.empty() ? MI_CALIB_DATA "/default.yaml" : options.recipe));
  const search::SampleSpec* form = nullptr;  // held-out texts for the hay
  for (const auto& spec : recipe.held_out)
    if (spec.kind == "needle") form = &spec;
  if (form == nullptr)
    return fail(Code::invalid_argument,
                recipe.name + ": holds out no needle sample to take texts from");
  const runtime::HeadConfig everything = search::dense_config(model->spec());
  std::vector<NeedleScore> scores;
  Progress progress;
  double done = 0;
  const double total =
      static_cast<double>(options.count) * static_cast<double>(options.lengths.size());
  for (const int64_t length : options.lengths) {
    NeedleScore& score = scores.emplace_back();
    score.length = length;
    score.questions = options.count;
    for (int i = 0; i < options.count; ++i, ++done) {
      search::SampleSpec spec = *form;
      spec.seed = kFirstSeed + static_cast<uint64_t>(i);
      MI_TRY(const auto sample,
             search::make_sample(spec, length, options.seed, *model->tokenizer()));
      MI_TRY(const auto dense, search::answer_sample(*model, everything, sample, compute));
      MI_TRY(const auto sparse, search::answer_sample(*model, config, sample, compute));
      score.dense_right += dense.right ? 1 : 0;
      score.sparse_right += sparse.right ? 1 : 0;
      score.dense_logp += dense.logp / options.count;
      score.sparse_logp += sparse.logp / options.count;
      score.share += sparse.share / options.count;
      progress.update("needles", (done + 1) / total);
    }
  }
  return scores;
}

int run_needles(const BenchOptions& options) {
  const auto scores = measure(options);
  if (!scores) return report(kBench, scores.error());
  if (options.json) {
    auto rows = nlohmann::json::array();
    for (const NeedleScore& s : *scores)
      rows.push_back({{"tokens", s.length},
                      {"questions", s.questions},
                      {"dense_right", s.dense_right},
                      {"sparse_right", s.sparse_right},
                      {"dense_logp", s.dense_logp},
                      {"sparse_logp", s.sparse_logp},
                      {"executed", s.share}});
    return report(kBench, print_result(rows.dump(2) + "\n"));
  }
  std::string text =
      fmt::format("{:>6} {:>9} {:>12} {:>12} {:>11} {:>12} {:>9}\n", "tokens", "questions",
                  "dense right", "sparse right", "dense log p", "sparse log p", "executed");
  for (const NeedleScore& s : *scores)
    text += fmt::format("{:>6} {:>9} {:>12} {:>12} {:>11.3f} {:>12.3f} {:>8.2f}%\n", s.length,
                        s.questions, s.dense_right, s.sparse_right, s.dense_logp, s.sparse_logp,
                        100 * s.share);
  return report(kBench, print_result(text));
}

}  // namespace

void add_needles(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "needles",
      "Needle questions answered by dense attention and by a head-config, scored "
      "teacher-forced from one prefill");
  command->add_option("config", options.config, "Head-config (YAML)")->required();
  add_common(*command, options);
  add_lengths(*command, options, {2048, 4096, 8192});
  command->add_option("--count", options.count, "Questions per length")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--recipe", options.recipe, "Recipe whose held-out needle gives the texts");
  command->callback([&] { run = [&] { return run_needles(options); }; });
}

}  // namespace mi::tools
