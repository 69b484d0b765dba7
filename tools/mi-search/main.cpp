// mi-search: from a model and a budget to a head-config. Wiring only.
#include <exception>

#include <CLI/CLI.hpp>

#include "tools/mi-search/search_tool.h"
#include "tools/terminal.h"

int main(int argc, char** argv) try {
  CLI::App app{
      "Finds which sparse attention pattern, with which budget, every head of a model may run"};
  mi::tools::SearchToolOptions options;
  auto* model = app.add_option("--model", options.model, "Hugging Face directory or GGUF file");
  auto* capture =
      app.add_option("--capture", options.captures,
                     "Search these captures of q, k and v (HDF5, one prompt each) instead of a "
                     "model; such a search has no certificate");
  mi::tools::add_limit_options(app, options.limit);
  app.add_option("-o,--output", options.output,
                 "Head-config to write (default: MODEL-BUDGET.yaml here)");
  app.add_option("--report", options.report,
                 "Score report to write (default: the head-config's name with .report.h5): all "
                 "scores, for mi-inspect pareto. Until it is complete its name ends in .part");
  app.add_flag("--resume", options.resume,
               "Go on from the score report of a search that was stopped, sample by sample");
  auto* recipe = app.add_option("--recipe", options.recipe,
                                "Calibration recipe (default: calib_data/default.yaml)");
  auto* text =
      app.add_option("--text", options.texts,
                     "Calibrate on these text files instead; together they need twice the longest "
                     "length in tokens");
  auto* tokens =
      app.add_option("--tokens", options.tokens, "Calibrate on a file of token ids instead");
  capture->excludes(model)->excludes(recipe)->excludes(text)->excludes(tokens);
  recipe->excludes(text)->excludes(tokens);
  text->excludes(tokens);
  auto* lengths =
      app.add_option(
             "--lengths", options.lengths,
             "Prompt lengths in tokens, such as 4096,8192 (default: the recipe's; 4096 with "
             "--text, half the ids with --tokens)")
          ->delimiter(',')
          ->check(CLI::Range(int64_t{128}, int64_t{1} << 24));
  app.add_option("--candidates", options.candidates,
                 "Candidate space (YAML; the default is calib_data/candidates.yaml)");
  app.add_option("--seed", options.seed, "Seed of the generated samples")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads (default: all)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--backend", options.backend,
                 "cpu_amx, cpu_avx512_bf16, cpu_avx512, cpu_avx2, cpu_generic or reference "
                 "(default: the fastest here); cuda: forward passes on an NVIDIA GPU in bf16, "
                 "scores by the fastest here; auto: cuda where that is possible");
  app.add_option("--precision", options.precision,
                 "Of the dense pass whose attention is scored; auto is bf16 where the backend has "
                 "bf16 instructions. Scores are f32, and the certificate but for --backend cuda's")
      ->check(CLI::IsMember({"auto", "bf16", "f32"}))
      ->capture_default_str();
  app.add_option("--chunk", options.chunk,
                 "Certify prefills of so many tokens at a time (default: prompts as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  auto* dry_run = app.add_flag("--dry-run", options.dry_run,
                               "Check everything, predict time and memory, and stop");
  app.add_flag("--json", options.json, "Print the result as JSON")->excludes(dry_run);
  capture->excludes(lengths);
  app.callback([&] {
    if (options.model.empty() && options.captures.empty())
      throw CLI::RequiredError("--model (or --capture)");
    if (options.limit.budget.empty() && !options.limit.min_recall)
      throw CLI::RequiredError("--budget (or --min-recall)");
  });
  return mi::tools::run_tool(app, mi::tools::kSearch, argc, argv,
                             [&] { return run_search(options); });
} catch (const std::exception& error) {  // from the parser's own set-up
  return mi::tools::give_up(mi::tools::kSearch, error.what());
}
