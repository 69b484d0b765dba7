// The options of mi-bench and its subcommands.
#include <cmath>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include "tools/mi-bench/commands.h"
#include "tools/number_check.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

void add_json(CLI::App& command, BenchOptions& options) {
  command.add_flag("--json", options.json, "Print JSON");
}

void add_threads(CLI::App& command, BenchOptions& options) {
  command.add_option("--threads", options.threads, "Threads (default: all)")
      ->check(CLI::Range(1, 1024));
  add_json(command, options);
}

void add_seed(CLI::App& command, BenchOptions& options) {
  command.add_option("--seed", options.seed, "Added to every sample's own seed")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53));
}

void add_kernels(CLI::App& command, BenchOptions& options) {
  command.add_option(
      "--backend", options.backend,
      "cpu_amx, cpu_avx512_bf16, cpu_avx512, cpu_avx2, cpu_generic or reference (default: the "
      "fastest here)");
  add_seed(command, options);
}

void add_rounds(CLI::App& command, BenchOptions& options) {
  command.add_option("--rounds", options.rounds, "Rounds in which the contestants alternate")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
}

void add_machine_timing(CLI::App& command, BenchOptions& options) {
  add_threads(command, options);
  add_rounds(command, options);
}

void add_common(CLI::App& command, BenchOptions& options) {
  command.add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  add_threads(command, options);
  add_kernels(command, options);
}

void add_timing(CLI::App& command, BenchOptions& options) {
  add_machine_timing(command, options);
  add_kernels(command, options);
}

// --lengths of a subcommand with its own default.
void add_lengths(CLI::App& command, BenchOptions& options, const std::vector<int64_t>& standard,
                 int64_t least = 128) {
  CLI::Option* lengths =
      command.add_option("--lengths", options.lengths, "Prompt lengths in tokens")
          ->delimiter(',')
          ->check(CLI::Range(least, int64_t{1} << 24))
          ->default_str(fmt::format("{}", fmt::join(standard, ",")));
  // The subcommands share their options: a default counts only for the one that was chosen.
  command.parse_complete_callback([&options, lengths, standard] {
    if (lengths->count() == 0) options.lengths = standard;
  });
}

void add_tokens_file(CLI::App& command, BenchOptions& options) {
  command.add_option("--tokens-file", options.tokens_file,
                     "Token ids separated by blanks or line ends (default: calibration texts)");
}

void add_head_dims(CLI::App& command, BenchOptions& options) {
  command.add_option("--head-dim", options.head_dims, "Head dims")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

void add_frontier(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "frontier",
      "Ours, the published method and the best single pattern at equal cost, judged on "
      "held-out samples");
  add_common(*command, options);
  options.limits = {"5%", "10%", "15%", "20%", "25%", "40%"};
  command->add_option("--limits", options.limits, "Budgets")->delimiter(',')->capture_default_str();
  add_lengths(*command, options, {2048, 8192});
  command->add_option("--recipe", options.recipe, "Calibration recipe");
  command->callback([&] { run = [&] { return run_frontier(options); }; });
}

void add_prefill(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "prefill",
      "Whole-model prefill to the last token's logits: dense f32, dense bf16, sparse bf16");
  command->add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  command->add_option("--config", options.config, "Head-config (YAML) of the sparse run");
  command->add_option("--tokens", options.tokens, "Prompt length in tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  add_tokens_file(*command, options);
  command->add_option("--logits", options.logits_file,
                      "Writes the last token's logits there: f32 [runs, vocabulary]");
  add_timing(*command, options);
  command->callback([&] { run = [&] { return run_prefill(options); }; });
}

void add_roof(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "roof",
      "Ceilings of this machine: matrix and vector units, the softmax, cache and memory; checked "
      "against the clock and oneDNN's products");
  add_machine_timing(*command, options);
  command->callback([&] { run = [&] { return run_roof(options); }; });
}

void add_attention(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "attention",
      "Dense causal attention in bf16 and f32 on one and on all threads, beside the machine's "
      "peak");
  add_timing(*command, options);
  add_lengths(*command, options, {8192});
  add_head_dims(*command, options);
  const std::vector<int> standard = {64, 128, 256};
  command->get_option("--head-dim")->default_str(fmt::format("{}", fmt::join(standard, ",")));
  command->callback([&, command, standard] {
    if (command->count("--head-dim") == 0) options.head_dims = standard;
    run = [&] { return run_attention(options); };
  });
}

void add_sparse(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "sparse", "Sparse bf16 attention at 15 % of the keys against our own dense attention");
  add_timing(*command, options);
  add_lengths(*command, options, {8192, 32768});
  command->callback([&] { run = [&] { return run_sparse(options); }; });
}

void add_cuda(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "cuda",
      "The CUDA kernels on the current device: dense attention, 15 % of the keys given in runs and "
      "singly, and the stripe estimate, beside a matrix product of cuBLAS");
  add_json(*command, options);
  add_rounds(*command, options);
  add_seed(*command, options);
  add_lengths(*command, options, {16384, 131072});
  add_head_dims(*command, options);
  command->callback([&] { run = [&] { return run_cuda(options); }; });
}

void add_estimate(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command =
      app.add_subcommand("estimate", "Estimate and selection of every pattern alone, at 15 %");
  add_timing(*command, options);
  add_lengths(*command, options, {8192, 32768});
  add_head_dims(*command, options);
  command->callback([&] { run = [&] { return run_estimate(options); }; });
}

void add_sweep(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "sweep", "Plans at 15 % from one token up: never slower than dense, or than the better way");
  add_timing(*command, options);
  add_lengths(*command, options, {1, 64, 128, 256, 320, 512, 640, 1024, 2048, 4096, 8192}, 1);
  add_head_dims(*command, options);
  command
      ->add_option("--dense-below", options.dense_below,
                   "The plan's kernel.dense_below; the default is what mi-search writes without a "
                   "device profile")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  command->callback([&] { run = [&] { return run_sweep(options); }; });
}

void add_search(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "search", "A search's sample, dense pass and scoring, beside the dense pass alone");
  command->add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  add_tokens_file(*command, options);
  add_timing(*command, options);
  add_lengths(*command, options, {8192});
  constexpr int kRounds = 3;  // of a minute or two each, at 8192 tokens of a model of 135M
  command->get_option("--rounds")->default_str(std::to_string(kRounds));
  command->callback([&, command] {
    if (command->count("--rounds") == 0) options.rounds = kRounds;
    run = [&] { return run_search(options); };
  });
}

void add_score(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "score", "Scoring of the default candidates beside dense attention of the same layer");
  add_timing(*command, options);
  add_lengths(*command, options, {4096, 8192});
  command->callback([&] { run = [&] { return run_score(options); }; });
}

void add_tensors(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "tensors", "Causal attention over tensors from files (what tools/compare runs)");
  command
      ->add_option(
          "folder", options.folder,
          "Holds shape.json (heads, kv_heads, tokens, head_dim) and q.bin, k.bin, v.bin in "
          "bf16, [heads, tokens, head_dim]; o.bin is written there in --element")
      ->required();
  command
      ->add_option("--stripe", options.share,
                   "Sparse: stripe pattern that spends this share of dense (default: dense)")
      ->check(number_between(0.001, 1));
  command->add_option("--element", options.element, "bf16, or f32: inputs are widened")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  add_timing(*command, options);
  command->callback([&] { run = [&] { return run_tensors(options); }; });
}

void add_fit(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "fit", "Measures what attention takes here and writes the profile for mi-search --device");
  add_timing(*command, options);
  command->add_option("-o,--output", options.output, "Profile to write")->required();
  add_head_dims(*command, options);
  command
      ->add_option("--dense", options.dense,
                   "GFLOP/s (useful FLOP, 2 N N d per head) of a host engine's dense attention, "
                   "to compare and count with instead of ours")
      ->check([](const std::string& given) {
        double value = 0;  // CLI::PositiveNumber lets nan through
        return CLI::detail::lexical_cast(given, value) && value > 0 && std::isfinite(value)
                   ? std::string()
                   : "expected GFLOP/s above 0, got " + given;
      });
  command->callback([&] { run = [&] { return report(kBench, run_fit(options)); }; });
}

}  // namespace

void add_commands(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  add_frontier(app, options, run);
  add_prefill(app, options, run);
  add_roof(app, options, run);
  add_attention(app, options, run);
  add_sparse(app, options, run);
  add_estimate(app, options, run);
  add_sweep(app, options, run);
  add_search(app, options, run);
  add_score(app, options, run);
  add_cuda(app, options, run);
  add_tensors(app, options, run);
  add_fit(app, options, run);
}

}  // namespace mi::tools
