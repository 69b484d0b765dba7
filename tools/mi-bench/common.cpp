#include <fstream>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <omp.h>

#include "tools/mi-bench/commands.h"

namespace mi::tools {

namespace {

void add_threads(CLI::App& command, BenchOptions& options) {
  command.add_option("--threads", options.threads, "Threads (default: all)")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--json", options.json, "Print JSON");
}

void add_kernels(CLI::App& command, BenchOptions& options) {
  command.add_option(
      "--backend", options.backend,
      "cpu_amx, cpu_avx512_bf16, cpu_avx512, cpu_avx2, cpu_generic or reference (default: the "
      "fastest here)");
  command.add_option("--seed", options.seed, "Added to every sample's own seed")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53));
}

}  // namespace

void add_common(CLI::App& command, BenchOptions& options) {
  command.add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  add_threads(command, options);
  add_kernels(command, options);
}

void add_timing(CLI::App& command, BenchOptions& options) {
  add_machine_timing(command, options);
  add_kernels(command, options);
}

void add_machine_timing(CLI::App& command, BenchOptions& options) {
  add_threads(command, options);
  command.add_option("--rounds", options.rounds, "Rounds in which the contestants alternate")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
}

void add_lengths(CLI::App& command, BenchOptions& options, const std::vector<int64_t>& standard,
                 int64_t least) {
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

int threads_of(const BenchOptions& options) {
  return options.threads > 0 ? options.threads : omp_get_max_threads();
}

Result<search::ComputeOptions> compute_options(const BenchOptions& options) {
  search::ComputeOptions compute;
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  compute.backend = &backend->f32();
  compute.threads = threads_of(options);
  omp_set_num_threads(compute.threads);
  return compute;
}

runtime::HeadConfig one_layer(int heads, int kv_heads, int head_dim,
                              const runtime::HeadEntry& entry) {
  runtime::HeadConfig config;
  config.model.name = "bench";
  config.model.layers = 1;
  config.model.heads = heads;
  config.model.kv_heads = kv_heads;
  config.model.head_dim = head_dim;
  config.layers = {std::vector<runtime::HeadEntry>(static_cast<size_t>(heads), entry)};
  return config;
}

Status write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) return fail(Code::io, path.string() + ": cannot be written");
  return {};
}

Result<std::unique_ptr<search::Model>> open_with_tokenizer(const BenchOptions& options) {
  MI_TRY(auto model, search::Model::open(options.model));
  if (model->tokenizer() == nullptr) return fail(Code::unsupported, model->tokenizer_status().what);
  return model;
}

Result<search::Sample> prompt(const BenchOptions& options, const search::Model& model,
                              int64_t tokens) {
  if (!options.tokens_file.empty()) {
    MI_TRY(const auto ids, search::load_token_ids(options.tokens_file, model.spec().vocab));
    return search::sample_from_ids(ids, 0, tokens, options.tokens_file);
  }
  if (model.tokenizer() == nullptr)
    return fail(Code::unsupported,
                model.tokenizer_status().what + "; --tokens-file takes token ids instead");
  MI_TRY(const search::Recipe recipe, search::load_recipe(MI_CALIB_DATA "/default.yaml"));
  search::SampleSpec texts;
  texts.kind = "text";
  for (const auto* specs : {&recipe.calibration, &recipe.held_out})
    for (const auto& spec : *specs)
      texts.texts.insert(texts.texts.end(), spec.texts.begin(), spec.texts.end());
  return search::make_sample(texts, tokens, 0, *model.tokenizer());
}

}  // namespace mi::tools
