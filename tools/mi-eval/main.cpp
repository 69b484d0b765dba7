// mi-eval: what a head-config does to a model's answers, and how much faster it is. Wiring only.
#include <exception>

#include <CLI/CLI.hpp>

#include "tools/mi-eval/eval_tool.h"
#include "tools/terminal.h"

int main(int argc, char** argv) try {
  using mi::tools::EvalToolOptions;
  CLI::App app{
      "Runs the same prompts dense and by a head-config: perplexity by position, questions "
      "answered, "
      "prefill time"};
  EvalToolOptions options;
  app.add_option("config", options.config, "Head-config (YAML)")->required();
  app.add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  app.add_option(
         "--tasks", options.tasks,
         "ppl (perplexity), needle (a fact by depth), kv (key-value pairs), multikey (one of "
         "eight facts of one form), multiquery (each of eight facts of eight forms), vt (chains of "
         "variables); default: all, with --infinitebench none")
      ->delimiter(',')
      ->check(CLI::IsMember({"ppl", "needle", "kv", "multikey", "multiquery", "vt"}));
  app.add_option("--lengths", options.lengths,
                 "Prompt lengths in tokens, such as 4096,8192 (default: the config's calibrated "
                 "ones)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{128}, int64_t{1} << 24));
  app.add_option("--count", options.count,
                 "Questions per task and length, and windows of text at most")
      ->check(CLI::Range(int64_t{1}, int64_t{100000}))
      ->capture_default_str();
  app.add_option("--depths", options.depths, "Depths at which needles lie, from begin to end")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
  auto* recipe = app.add_option("--recipe", options.recipe,
                                "Recipe whose held-out texts are read and hide the facts (default: "
                                "calib_data/default.yaml)");
  app.add_option("--text", options.texts, "These text files instead")->excludes(recipe);
  app.add_option("--infinitebench", options.infinitebench,
                 "Questions in InfiniteBench's format (JSONL); longer prompts than the longest of "
                 "--lengths (default: the model's trained positions) are cut in the middle");
  app.add_option("--chunk", options.chunk,
                 "Prefill so many tokens at a time, sparse and dense (default: prompts as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  app.add_flag("--decode", options.decode,
               "Answer by greedy decoding, too: sparse prefill, dense decoding");
  app.add_option("--seed", options.seed, "Added to every question's own seed")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads (default: all)")
      ->check(CLI::Range(1, 1024));
  app.add_option(
      "--backend", options.backend,
      "cpu_amx, cpu_avx512_bf16, cpu_avx512, cpu_avx2, cpu_generic or reference (default: "
      "the fastest here)");
  app.add_option("--precision", options.precision,
                 "Of both prefills; auto is bf16 where the backend has bf16 instructions")
      ->check(CLI::IsMember({"auto", "bf16", "f32"}))
      ->capture_default_str();
  app.add_flag("--json", options.json, "Print the result as JSON");
  return mi::tools::run_tool(app, mi::tools::kEval, argc, argv, [&] { return run_eval(options); });
} catch (const std::exception& error) {  // from the parser's own set-up
  return mi::tools::give_up(mi::tools::kEval, error.what());
}
