#include "libsearch/model/hf_config.h"

#include <cmath>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"
#include "libsearch/model/hf_rope.h"
#include "libsearch/model/json_reader.h"
#include "libsearch/model/spec_check.h"

namespace mi::search {
namespace {

Failure unsupported(const JsonObject& config, std::string_view key, std::string_view supported) {
  Status status = Failure(config.wrong(key, supported)).status;
  status.code = Code::unsupported;
  return fail(std::move(status));
}

// Options whose other values change the arithmetic.
Status check_options(const JsonObject& config, const ModelFamily& family) {
  MI_TRY(const bool biased, config.boolean("mlp_bias", false));
  if (biased) return unsupported(config, "mlp_bias", "false (biases are not supported there)");
  // Gemma's first files have a wrong hidden_act beside the right one.
  const std::string_view key = family.gelu ? "hidden_activation" : "hidden_act";
  const std::string expected = family.gelu ? "gelu_pytorch_tanh" : "silu";
  MI_TRY(const std::string activation, config.string(key, expected));
  if (activation != expected) return unsupported(config, key, fmt::format("\"{}\"", expected));
  MI_TRY(const bool both_ways, config.boolean("use_bidirectional_attention", false));
  if (both_ways)
    return unsupported(config, "use_bidirectional_attention", "false (causal attention)");
  if (config.has("quantization_config"))
    return unsupported(config, "quantization_config", "null (not supported)");
  return {};
}

Status read_biases(const JsonObject& config, const ModelFamily& family, ModelSpec& spec) {
  MI_TRY(const bool asked, config.boolean("attention_bias", false));
  using Bias = ModelFamily::Bias;
  if (asked && (family.bias == Bias::none))
    return unsupported(config, "attention_bias",
                       fmt::format("false ({} has no biases)", family.name));
  spec.qkv_bias = family.bias == Bias::qkv || asked;
  spec.o_bias = family.bias == Bias::asked && asked;
  return {};
}

// Which of the layers see a window of keys only.
Status read_windows(const JsonObject& config, const ModelFamily& family, ModelSpec& spec) {
  MI_TRY(const bool used, config.boolean("use_sliding_window", !family.window_is_asked));
  int64_t window = 0;
  if (used && config.has("sliding_window")) {
    MI_TRY(window, config.integer("sliding_window", 1, kMaxContext));
  }
  std::vector<int64_t> windows(static_cast<size_t>(spec.layers), 0);
  if (config.has("layer_types")) {
    MI_TRY(const Json* types, config.array("layer_types"));
    if (types->size() != windows.size())
      return config.wrong("layer_types", fmt::format("a list of {} layers", spec.layers));
    for (size_t i = 0; i < windows.size(); ++i) {
      const bool local = (*types)[i] == "sliding_attention";
      if (!local && (*types)[i] != "full_attention")
        return unsupported(config, "layer_types", "full_attention, sliding_attention");
      if (local && window == 0) return config.wrong("sliding_window", "a window of such layers");
      windows[i] = local ? window : 0;
    }
  } else {
    MI_TRY(const int64_t full_every,
           config.integer("sliding_window_pattern", 1, kMaxLayers, family.full_every));
    int64_t first = 0;
    if (family.window_is_asked) {
      MI_TRY(first, config.integer("max_window_layers", 0, kMaxLayers, 28));
    }
    for (size_t i = 0; i < windows.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      const bool full = layer < first || (full_every > 0 && (layer + 1) % full_every == 0);
      windows[i] = full ? 0 : window;
    }
  }
  set_windows(std::move(windows), spec);
  return {};
}

// What a soft cap and a head's scale are, in Gemma's terms.
Status read_scores(const JsonObject& config, const ModelFamily& family, ModelSpec& spec) {
  const auto positive = [&](std::string_view key, double& value) -> Status {
    if (!config.has(key)) return {};
    MI_TRY(value, config.number(key));
    if (!(value > 0 && value <= 1e9)) return config.wrong(key, "a number above 0, up to 1e9");
    return {};
  };
  double scalar = 0, softcap = 0, logit_softcap = 0;
  MI_CHECK(positive("query_pre_attn_scalar", scalar));
  MI_CHECK(positive("attn_logit_softcapping", softcap));
  MI_CHECK(positive("final_logit_softcapping", logit_softcap));
  // transformers' Gemma 3 reads neither cap.
  if (family.norms != ModelFamily::Norms::gemma || family.qk_norm) {
    for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"})
      if (config.has(key)) return unsupported(config, key, "null");
  }
  if (family.norms != ModelFamily::Norms::gemma) return {};
  if (scalar > 0 && scalar != spec.head_dim) spec.scale = 1 / std::sqrt(scalar);
  spec.softcap = softcap;
  spec.logit_softcap = logit_softcap;
  return {};
}

Status read_experts(const JsonObject& config, const ModelFamily& family, ModelSpec& spec) {
  if (!family.experts) return {};
  MI_TRY(const int64_t experts, config.integer("num_experts", 1, kMaxExperts));
  MI_TRY(const int64_t used, config.integer("num_experts_per_tok", 1, experts));
  MI_TRY(const int64_t width, config.integer("moe_intermediate_size", 1, kMaxWidth));
  MI_TRY(spec.norm_experts, config.boolean("norm_topk_prob", false));
  MI_TRY(const int64_t step, config.integer("decoder_sparse_step", 0, kMaxLayers, 1));
  if (step != 1) return unsupported(config, "decoder_sparse_step", "1 (every layer has experts)");
  if (config.has("mlp_only_layers")) {
    MI_TRY(const Json* dense, config.array("mlp_only_layers"));
    if (!dense->empty()) return unsupported(config, "mlp_only_layers", "none");
  }
  spec.experts = static_cast<int>(experts);
  spec.experts_used = static_cast<int>(used);
  spec.ffn = static_cast<int>(width);
  return {};
}

Result<const ModelFamily*> find_family(const JsonObject& config) {
  MI_TRY(const Json* names, config.array("architectures"));
  if (names->size() != 1 || !names->front().is_string()) {
    return config.wrong("architectures", "one name");
  }
  const auto& name = names->front().get_ref<const std::string&>();
  for (const ModelFamily& family : families()) {
    if (family.hf_architecture == name || (!name.empty() && family.hf_multimodal == name))
      return &family;
  }
  return unsupported(config, "architectures", "one of " + supported_hf_architectures());
}

}  // namespace

Result<ModelSpec> parse_hf_config(std::string_view text, const std::string& file) {
  MI_TRY(const Json json, parse_json(text, file));
  MI_TRY(JsonObject config, JsonObject::of(json, file));
  MI_TRY(const ModelFamily* family, find_family(config));
  MI_CHECK(check_options(config, *family));
  ModelSpec spec;
  spec.architecture = std::string(family->name);
  spec.beside_others = json["architectures"][0] == family->hf_multimodal;
  Json text_config;
  if (spec.beside_others) {
    MI_TRY(const JsonObject own, config.object("text_config"));
    text_config = Json::parse(family->text_defaults);
    if (config.has("tie_word_embeddings"))
      text_config["tie_word_embeddings"] = json["tie_word_embeddings"];
    for (const auto& [key, value] : own.json().items())
      if (!value.is_null()) text_config[key] = value;
    MI_TRY(config, JsonObject::of(text_config, config.place("text_config")));
    MI_CHECK(check_options(config, *family));
  }
  const auto size = [&](std::string_view key, int64_t limit, int& field,
                        std::optional<int64_t> fallback = {}) -> Status {
    MI_TRY(const int64_t value, config.integer(key, 1, limit, fallback));
    field = static_cast<int>(value);
    return {};
  };
  MI_CHECK(size("num_hidden_layers", kMaxLayers, spec.layers));
  MI_CHECK(size("num_attention_heads", kMaxWidth, spec.heads));
  MI_CHECK(size("num_key_value_heads", kMaxWidth, spec.kv_heads, spec.heads));
  MI_CHECK(size("hidden_size", kMaxWidth, spec.hidden));
  MI_CHECK(size("intermediate_size", kMaxWidth, spec.ffn));
  MI_CHECK(size("vocab_size", kMaxVocab, spec.vocab));
  if (!config.has("head_dim") && spec.hidden % spec.heads != 0) {
    return config.wrong("hidden_size", fmt::format("a multiple of {} heads", spec.heads));
  }
  MI_CHECK(size("head_dim", kMaxWidth, spec.head_dim, spec.hidden / spec.heads));
  MI_TRY(spec.context, config.integer("max_position_embeddings", 1, kMaxContext, 2048));
  MI_TRY(spec.rope, read_hf_rope(config, spec.head_dim, spec.context));
  MI_CHECK(read_biases(config, *family, spec));
  spec.local_rope = spec.rope;
  if (family->local_theta > 0) {
    MI_TRY(spec.local_rope, read_hf_local_rope(config, spec.head_dim, family->local_theta));
  }
  MI_CHECK(read_windows(config, *family, spec));
  MI_CHECK(read_scores(config, *family, spec));
  MI_CHECK(read_experts(config, *family, spec));
  spec.gelu = family->gelu;
  if (family->scaled_embedding) spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden));
  MI_TRY(spec.rms_eps, config.number("rms_norm_eps", 1e-6));
  MI_TRY(spec.tied_embeddings, config.boolean("tie_word_embeddings", family->tied_by_default));
  MI_CHECK(check_spec(spec, file));
  return spec;
}

}  // namespace mi::search
