#include "libruntime/plan_heads.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace mi::runtime {
namespace {

Status check_shape(const HeadConfig& config, const PlanShape& shape) {
  const HeadConfig::Model& model = config.model;
  if (shape.heads != model.heads || shape.kv_heads != model.kv_heads ||
      shape.head_dim != model.head_dim)
    return fail(
        Code::invalid_argument,
        fmt::format("config of model {}: it has {} heads, {} kv_heads, head_dim {}; the call "
                    "has {}, {}, {}",
                    model.name, model.heads, model.kv_heads, model.head_dim, shape.heads,
                    shape.kv_heads, shape.head_dim));
  if (shape.kv_heads < 1 || shape.heads % shape.kv_heads != 0)
    return fail(Code::invalid_argument,
                fmt::format("kv_heads: got {}, expected a divisor of heads {}", shape.kv_heads,
                            shape.heads));
  if (config.layers.size() != static_cast<size_t>(model.layers))
    return fail(Code::invalid_argument, fmt::format("layers: the config lists {}, its model has {}",
                                                    config.layers.size(), model.layers));
  for (const auto& layer : config.layers)
    if (layer.size() != static_cast<size_t>(model.heads))
      return fail(Code::invalid_argument, fmt::format("heads: a layer lists {}, the model has {}",
                                                      layer.size(), model.heads));
  return {};
}

}  // namespace

Result<PlanShape> complete_shape(const HeadConfig& config, const PlanShape& shape) {
  MI_CHECK(check_shape(config, shape));
  if (shape.prompt_tokens > 0 && shape.prompt_tokens < shape.n_kv)
    return fail(Code::invalid_argument,
                fmt::format("prompt_tokens: got {}, expected n_kv {} at least", shape.prompt_tokens,
                            shape.n_kv));
  PlanShape complete = shape;
  if (shape.scale == 0)
    complete.scale = static_cast<float>(attention_scale(config.model.scale, config.model.head_dim));
  if (shape.softcap == 0) complete.softcap = static_cast<float>(config.model.softcap);
  return complete;
}

Result<HeadPlans> plan_heads(const HeadConfig& config, const PlanShape& shape) {
  const CallShape call{shape.n_q, shape.n_kv, shape.head_dim};
  const auto dense = static_cast<double>(dense_tiles(call));
  const int64_t prompt = shape.prompt_tokens > 0 ? shape.prompt_tokens : shape.n_kv;
  HeadPlans plans;
  int beyond = 0;
  int too_short = 0;
  for (const auto& layer : config.layers) {
    auto& heads = plans.layers.emplace_back();
    for (const HeadEntry& entry : layer) {
      HeadPlan head;
      MI_TRY(head.resolved, resolve_head(entry, config.kernel, prompt));
      int64_t& last = head.resolved.params.last;
      last = std::max<int64_t>(0, last - (prompt - shape.n_kv));
      head.estimator = make_estimator(head.resolved.params);
      const bool capped = shape.n_q == prompt || shape.prompt_tokens == 0;
      if ((capped || head.resolved.spend_share) && head.resolved.share &&
          head.resolved.params.pattern != Pattern::dense) {
        // In tiles; a head whose threshold is still to be found pays for both of its passes.
        const double estimate = head.estimator->flops(call) +
                                (head.resolved.spend_share ? head.estimator->rows_flops(call) : 0);
        head.tile_cap =
            (*head.resolved.share + 1e-6) * dense - estimate / tile_flops(shape.head_dim);
      }
      beyond += head.resolved.beyond_range ? 1 : 0;
      too_short += head.resolved.is_short ? 1 : 0;
      heads.push_back(std::move(head));
    }
  }
  if (too_short > 0)
    plans.notes.push_back(
        fmt::format("{} tokens are few beside dense_below {}: {} sparse heads run dense", prompt,
                    config.kernel.dense_below, too_short));
  if (beyond > 0)
    plans.notes.push_back(fmt::format(
        "{} tokens lie outside the calibrated lengths: {} heads keep the share of the nearest one",
        prompt, beyond));
  return plans;
}

}  // namespace mi::runtime
