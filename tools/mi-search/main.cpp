// mi-search: from a model and a budget to a head-config. Wiring only.
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/mi-search/search_tool.h"
#include "tools/terminal.h"

int main(int argc, char** argv) {
  using mi::tools::SearchToolOptions;
  try {
    CLI::App app{
        "Finds which sparse attention pattern, with which budget, every head of a model may run"};
    app.name(std::string(mi::tools::kSearch));
    app.set_version_flag("--version", "mi-search " MI_VERSION);
    app.footer("Exit codes: 0 done, 1 failed, 2 usage, 3 a file is missing or not understood.");
    SearchToolOptions options;
    app.add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
    app.add_option("--budget", options.budget,
                   "Share of dense attention that may be executed: 15% or 0.15");
    app.add_option("-o,--output", options.output,
                   "Head-config to write (default: MODEL-BUDGET.yaml here)");
    auto* recipe = app.add_option("--recipe", options.recipe,
                                  "Calibration recipe (default: calib_data/default.yaml)");
    auto* text = app.add_option("--text", options.texts, "Calibrate on these text files instead");
    auto* tokens =
        app.add_option("--tokens", options.tokens, "Calibrate on a file of token ids instead");
    recipe->excludes(text)->excludes(tokens);
    text->excludes(tokens);
    app.add_option("--lengths", options.lengths, "Prompt lengths in tokens, such as 4096,8192")
        ->delimiter(',')
        ->check(CLI::Range(int64_t{128}, int64_t{1} << 24));
    app.add_option("--allocate", options.allocate, "How the budget is divided")
        ->check(CLI::IsMember({"global", "per-head"}))
        ->capture_default_str();
    app.add_option("--objective", options.objective,
                   "What is minimised: output error, squared or plain lost attention mass")
        ->check(CLI::IsMember({"error", "square", "mass"}))
        ->capture_default_str();
    app.add_option("--min-recall", options.min_recall,
                   "Instead: least cost that keeps this recall in 95% of every head's row blocks")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--candidates", options.candidates,
                   "Candidate space (YAML; the default is calib_data/candidates.yaml)");
    app.add_option("--seed", options.seed, "Seed of the generated samples")->capture_default_str();
    app.add_option("--threads", options.threads, "Threads (default: all)")
        ->check(CLI::Range(1, 1024));
    app.add_option("--backend", options.backend,
                   "cpu_avx512, cpu_avx2, cpu_generic or reference (default: the fastest here)");
    app.add_flag("--dry-run", options.dry_run,
                 "Check everything, predict time and memory, and stop");
    app.add_flag("--json", options.json, "Print the result as JSON");
    try {
      app.parse(argc, argv);
      if (options.budget.empty() && !options.min_recall)
        throw CLI::RequiredError("--budget (or --min-recall)");
    } catch (const CLI::ParseError& error) {
      // CLI11 numbers its errors from 100 on; 0 is --help and --version.
      return app.exit(error) == 0 ? mi::tools::kExitDone : mi::tools::kExitUsage;
    }
    return run_search(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", mi::tools::kSearch, error.what());
    return mi::tools::kExitFailed;
  }
}
