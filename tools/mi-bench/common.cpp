#include <fstream>

#include <omp.h>

#include "tools/mi-bench/commands.h"

namespace mi::tools {

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
