#include "libsearch/model/hf_config.h"

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
Status check_options(const JsonObject& config) {
  MI_TRY(const bool biased, config.boolean("mlp_bias", false));
  if (biased) return unsupported(config, "mlp_bias", "false (biases are not supported there)");
  MI_TRY(const std::string activation, config.string("hidden_act", "silu"));
  if (activation != "silu") return unsupported(config, "hidden_act", "\"silu\"");
  if (config.has("quantization_config"))
    return unsupported(config, "quantization_config", "null (not supported)");
  return {};
}

Status read_biases(const JsonObject& config, const Family& family, ModelSpec& spec) {
  MI_TRY(const bool asked, config.boolean("attention_bias", false));
  using Bias = Family::Bias;
  if (asked && (family.bias == Bias::none))
    return unsupported(config, "attention_bias",
                       fmt::format("false ({} has no biases)", family.name));
  spec.qkv_bias = family.bias == Bias::qkv || asked;
  spec.o_bias = family.bias == Bias::asked && asked;
  return {};
}

// The keys that the last rows of some layers see at most; longer prompts are refused.
Status read_window(const JsonObject& config, const Family& family, ModelSpec& spec) {
  MI_TRY(const bool used, config.boolean("use_sliding_window", !family.window_is_asked));
  if (!used || !config.has("sliding_window")) return {};
  MI_TRY(spec.window, config.integer("sliding_window", 1, kMaxContext));
  return {};
}

Result<const Family*> find_family(const JsonObject& config) {
  MI_TRY(const Json* names, config.array("architectures"));
  if (names->size() != 1 || !names->front().is_string()) {
    return config.wrong("architectures", "one name");
  }
  const auto& name = names->front().get_ref<const std::string&>();
  for (const Family& family : families()) {
    if (family.hf_architecture == name) return &family;
  }
  return unsupported(config, "architectures", "one of " + supported_hf_architectures());
}

}  // namespace

Result<ModelSpec> parse_hf_config(std::string_view text, const std::string& file) {
  MI_TRY(const Json json, parse_json(text, file));
  MI_TRY(const JsonObject config, JsonObject::of(json, file));
  MI_TRY(const Family* family, find_family(config));
  MI_CHECK(check_options(config));
  ModelSpec spec;
  spec.architecture = std::string(family->name);
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
  MI_CHECK(read_window(config, *family, spec));
  MI_TRY(spec.rms_eps, config.number("rms_norm_eps", 1e-6));
  MI_TRY(spec.tied_embeddings, config.boolean("tie_word_embeddings", false));
  MI_CHECK(check_spec(spec, file));
  return spec;
}

}  // namespace mi::search
