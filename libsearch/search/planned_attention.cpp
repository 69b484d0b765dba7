#include "libsearch/search/planned_attention.h"

#include <algorithm>

#include <fmt/format.h>

#include "libruntime/cost.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

runtime::HeadConfig::Model config_model(const ModelSpec& spec) {
  return {.name = spec.name,
          .architecture = spec.architecture,
          .layers = spec.layers,
          .heads = spec.heads,
          .kv_heads = spec.kv_heads,
          .head_dim = spec.head_dim,
          .rope_theta = spec.rope.theta,
          .scale = spec.scale,
          .softcap = spec.softcap,
          .attention_layers = spec.attention_layers,
          .fingerprint = spec.fingerprint};
}

runtime::HeadConfig dense_config(const ModelSpec& spec) {
  runtime::HeadConfig config;
  config.model = config_model(spec);
  config.layers.assign(static_cast<size_t>(spec.layers),
                       std::vector<runtime::HeadEntry>(static_cast<size_t>(spec.heads)));
  return config;
}

Status check_config_model(const runtime::HeadConfig& config, const ModelSpec& spec,
                          std::string_view file) {
  const runtime::HeadConfig::Model& made_for = config.model;
  if (made_for.layers == spec.layers && made_for.heads == spec.heads &&
      made_for.kv_heads == spec.kv_heads && made_for.head_dim == spec.head_dim &&
      made_for.fingerprint == spec.fingerprint)
    return {};
  return fail(Code::schema,
              fmt::format("{}: made for another model: found {} ({} layers, {} heads, {} kv_heads, "
                          "head_dim {}, {}), expected {} ({}, {}, {}, {}, {})",
                          file, made_for.name, made_for.layers, made_for.heads, made_for.kv_heads,
                          made_for.head_dim, made_for.fingerprint, spec.name, spec.layers,
                          spec.heads, spec.kv_heads, spec.head_dim, spec.fingerprint));
}

void add(const runtime::HeadStats& chunk, double weight, runtime::HeadStats& sum) {
  sum.tiles += chunk.tiles;
  sum.estimate_flops += chunk.estimate_flops;
  sum.share += weight * chunk.share;
  sum.capped = sum.capped || chunk.capped;
}

Result<PlannedAttention> PlannedAttention::make(const runtime::HeadConfig& config, int64_t tokens,
                                                const ComputeOptions& options,
                                                runtime::Element element, int64_t keys) {
  PlannedAttention made(config.model, tokens, keys > 0 ? keys : tokens, options.threads);
  const int64_t step = options.chunk > 0 ? options.chunk : tokens;
  double all_tiles = 0;
  size_t workspace = 0;
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t rows = std::min(step, tokens - begin);
    const runtime::PlanShape shape{.n_q = rows,
                                   .n_kv = made.earlier_ + begin + rows,
                                   .heads = config.model.heads,
                                   .kv_heads = config.model.kv_heads,
                                   .head_dim = config.model.head_dim,
                                   .element = element,
                                   .prompt_tokens = made.earlier_ + tokens};
    MI_TRY(runtime::Plan plan,
           runtime::Plan::make(config, shape, *options.backend, options.threads));
    workspace = std::max(workspace, plan.workspace_bytes());
    for (const std::string& note : plan.notes())
      if (std::find(made.notes_.begin(), made.notes_.end(), note) == made.notes_.end())
        made.notes_.push_back(note);
    const auto tiles =
        static_cast<double>(runtime::dense_tiles({shape.n_q, shape.n_kv, config.model.head_dim}));
    all_tiles += tiles;
    made.chunks_.push_back({std::move(plan), begin, rows, tiles, {}});
  }
  for (Chunk& chunk : made.chunks_) chunk.weight /= all_tiles;
  made.workspace_.resize(workspace);
  return made;
}

}  // namespace mi::search
