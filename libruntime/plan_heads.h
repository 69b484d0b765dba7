// The part of planning that is the same wherever a plan runs: a head-config resolved for one shape
// of call.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libruntime/config.h"
#include "libruntime/estimator.h"
#include "libruntime/resolve.h"

namespace mi::runtime {

enum class Element { f32, bf16, f16 };  // of q, k, v and o; lse is f32

struct PlanShape {
  int64_t n_q = 0;   // query tokens of this call
  int64_t n_kv = 0;  // keys so far, n_kv >= n_q; row i attends keys j <= i + n_kv - n_q
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
  float scale = 0;    // 0: the config's
  float softcap = 0;  // 0: the config's
  Element element = Element::f32;
  // Of the whole prompt, where this call is a chunk of it: thresholds are then those of that
  // length, the last rows that run dense are the prompt's, and there is no cap, which is a share of
  // the whole. 0: n_kv.
  int64_t prompt_tokens = 0;
};

struct HeadPlan {
  ResolvedHead resolved;
  std::unique_ptr<const Estimator> estimator;
  std::optional<double> tile_cap;  // tiles that the share leaves after the estimate
};

struct HeadPlans {
  std::vector<std::vector<HeadPlan>> layers;
  std::vector<std::string> notes;  // as Plan::notes
};

// The shape with the config's scale and soft cap where it has none of its own. Errors: a config of
// another model, a prompt shorter than the call.
[[nodiscard]] Result<PlanShape> complete_shape(const HeadConfig& config, const PlanShape& shape);
// Of a complete shape.
[[nodiscard]] Result<HeadPlans> plan_heads(const HeadConfig& config, const PlanShape& shape);

}  // namespace mi::runtime
