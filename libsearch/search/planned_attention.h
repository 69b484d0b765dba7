// Attention of a model's layers through the runtime: what scoring and verification run, dense or
// by a head-config, so that what is judged is what an engine executes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libruntime/plan.h"
#include "libsearch/model/model.h"

namespace mi::search {

struct ComputeOptions;

// A plan with its workspace and log-sum-exp, for calls of one length: `tokens` queries, the last of
// `keys` keys (0: as many).
class PlannedAttention {
 public:
  [[nodiscard]] static Result<PlannedAttention> make(
      const runtime::HeadConfig& config, int64_t tokens, const ComputeOptions& options,
      runtime::Element element = runtime::Element::f32, int64_t keys = 0);
  // Layers in turn: layer 0 begins a forward pass. T is the element's type.
  template <class T>
  [[nodiscard]] Status run(const BasicLayerQkv<T>& layer, TensorView<T, 3> o) {
    if (layer.layer == 0) unspent_ = {};
    return plan_.run(layer.layer, layer.q, layer.k, layer.v, o, lse_.view(), workspace_.data(),
                     stats_, unspent_);
  }
  [[nodiscard]] TensorView<const float, 2> lse() const { return lse_.view(); }  // of the last run
  [[nodiscard]] const std::vector<runtime::HeadStats>& stats() const { return stats_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return plan_.notes(); }

 private:
  PlannedAttention(runtime::Plan plan, int heads, int64_t tokens)
      : plan_(std::move(plan)),
        workspace_(plan_.workspace_bytes()),
        lse_({heads, tokens}),
        stats_(static_cast<size_t>(heads)) {}
  runtime::Plan plan_;
  AlignedBuffer<char> workspace_;
  Tensor<float, 2> lse_;
  std::vector<runtime::HeadStats> stats_;
  runtime::Unspent unspent_;
};

// The config that runs every head of the model dense.
[[nodiscard]] runtime::HeadConfig dense_config(const ModelSpec& spec);
[[nodiscard]] runtime::HeadConfig::Model config_model(const ModelSpec& spec);
// Whether a head-config was made for this model: shape and fingerprint. `file` is named if not.
[[nodiscard]] Status check_config_model(const runtime::HeadConfig& config, const ModelSpec& spec,
                                        std::string_view file);
[[nodiscard]] float attention_scale(const ModelSpec& spec);

}  // namespace mi::search
