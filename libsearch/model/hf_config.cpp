#include "libsearch/model/hf_config.h"

#include <cmath>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"
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
  for (const std::string_view key : {"attention_bias", "mlp_bias"}) {
    MI_TRY(const bool biased, config.boolean(key, false));
    if (biased) return unsupported(config, key, "false (biases are not supported)");
  }
  MI_TRY(const std::string activation, config.string("hidden_act", "silu"));
  if (activation != "silu") return unsupported(config, "hidden_act", "\"silu\"");
  for (const std::string_view key : {"quantization_config", "sliding_window"}) {
    if (config.has(key)) return unsupported(config, key, "null (not supported)");
  }
  MI_TRY(const double rotary_share, config.number("partial_rotary_factor", 1.0));
  if (rotary_share != 1.0) return unsupported(config, "partial_rotary_factor", "1");
  return {};
}

// The rotary base: `rope_theta` beside an optional `rope_scaling`, or both inside the newer
// `rope_parameters`. Any scaling but "default" changes the angles.
Result<double> read_rope(const JsonObject& config) {
  MI_TRY(double theta, config.number("rope_theta", 10000.0));
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    MI_TRY(const JsonObject rope, config.object(key));
    MI_TRY(const std::string old_name, rope.string("type", "default"));
    MI_TRY(const std::string type, rope.string("rope_type", old_name));
    if (type != "default") {
      return fail(Code::unsupported, fmt::format("{}: got \"{}\", supported: \"default\"",
                                                 rope.place("rope_type"), type));
    }
    if (rope.has("factor")) return unsupported(rope, "factor", "absent (no scaling)");
    MI_TRY(const double share, rope.number("partial_rotary_factor", 1.0));
    if (share != 1.0) return unsupported(rope, "partial_rotary_factor", "1");
    MI_TRY(theta, rope.number("rope_theta", theta));
  }
  return theta;
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
  MI_TRY(spec.rope_theta, read_rope(config));
  MI_TRY(spec.rms_eps, config.number("rms_norm_eps", 1e-6));
  MI_TRY(spec.tied_embeddings, config.boolean("tie_word_embeddings", false));
  MI_CHECK(check_spec(spec, file));
  return spec;
}

}  // namespace mi::search
