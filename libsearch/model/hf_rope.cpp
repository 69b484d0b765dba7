#include "libsearch/model/hf_rope.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

#include "libsearch/model/spec_check.h"

namespace mi::search {
namespace {

struct Named {
  std::string_view name;
  RopeScaling scaling;
};
constexpr std::array kTypes = {
    Named{"default", RopeScaling::none},    Named{"linear", RopeScaling::linear},
    Named{"dynamic", RopeScaling::dynamic}, Named{"llama3", RopeScaling::llama3},
    Named{"yarn", RopeScaling::yarn},       Named{"longrope", RopeScaling::factors},
    Named{"su", RopeScaling::factors},  // LongRoPE in Phi-3's first config.json
};

Result<RopeScaling> scaling_of(const JsonObject& rope) {
  MI_TRY(const std::string old_name, rope.string("type", "default"));
  MI_TRY(const std::string type, rope.string("rope_type", old_name));
  std::string known;
  for (const Named& named : kTypes) {
    if (named.name == type) return named.scaling;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", named.name);
  }
  return fail(Code::unsupported,
              fmt::format("{}: got \"{}\", supported: {}", rope.place("rope_type"), type, known));
}

// A number above 0 and below what would leave no digits of an angle.
Result<double> positive(const JsonObject& rope, std::string_view key,
                        std::optional<double> fallback = {}) {
  MI_TRY(const double value, rope.number(key, fallback));
  if (!(value > 0 && value <= 1e9)) return rope.wrong(key, "a number above 0, up to 1e9");
  return value;
}

Result<std::vector<double>> factors(const JsonObject& rope, std::string_view key, int pairs) {
  MI_TRY(const Json* list, rope.array(key));
  const auto size = static_cast<size_t>(pairs);
  if (list->size() != size) return rope.wrong(key, fmt::format("{} numbers", size));
  std::vector<double> values;
  for (const Json& value : *list) {
    if (!value.is_number() || !(value.get<double>() > 0 && value.get<double>() <= 1e9))
      return rope.wrong(key, "numbers above 0, up to 1e9");
    values.push_back(value.get<double>());
  }
  return values;
}

// What the scaling of this kind has, from the object that names it.
Status read_scaling(const JsonObject& config, const JsonObject& object, int64_t context,
                    Rope& rope) {
  // Phi-3 has the original context beside the object.
  MI_TRY(const int64_t beside,
         config.integer("original_max_position_embeddings", 1, kMaxContext, context));
  MI_TRY(rope.original_context,
         object.integer("original_max_position_embeddings", 1, kMaxContext, beside));
  const double stretch = static_cast<double>(context) / static_cast<double>(rope.original_context);
  switch (rope.scaling) {
    case RopeScaling::none:
      if (object.has("factor"))
        return fail(Code::unsupported,
                    fmt::format("{}: found beside rope_type \"default\"", object.place("factor")));
      return {};
    case RopeScaling::linear:
    case RopeScaling::dynamic: {
      MI_TRY(rope.factor, positive(object, "factor"));
      return {};
    }
    case RopeScaling::llama3: {
      MI_TRY(rope.factor, positive(object, "factor"));
      MI_TRY(rope.low_factor, positive(object, "low_freq_factor"));
      MI_TRY(rope.high_factor, positive(object, "high_freq_factor"));
      if (!(rope.low_factor < rope.high_factor))
        return object.wrong("high_freq_factor", "more than low_freq_factor");
      if (!object.has("original_max_position_embeddings"))
        return object.wrong("original_max_position_embeddings", "an integer");
      return {};
    }
    case RopeScaling::yarn: {
      MI_TRY(rope.factor, positive(object, "factor", stretch));
      MI_TRY(rope.beta_fast, positive(object, "beta_fast", 32));
      MI_TRY(rope.beta_slow, positive(object, "beta_slow", 1));
      MI_TRY(rope.truncate, object.boolean("truncate", true));
      double factor = yarn_attention_factor(rope.factor);
      if (object.has("mscale") && object.has("mscale_all_dim")) {
        MI_TRY(const double mscale, positive(object, "mscale"));
        MI_TRY(const double all, positive(object, "mscale_all_dim"));
        factor =
            yarn_attention_factor(rope.factor, mscale) / yarn_attention_factor(rope.factor, all);
      }
      MI_TRY(rope.attention_factor, positive(object, "attention_factor", factor));
      return {};
    }
    case RopeScaling::factors: {
      MI_TRY(rope.short_factors, factors(object, "short_factor", rope.dim / 2));
      MI_TRY(rope.long_factors, factors(object, "long_factor", rope.dim / 2));
      MI_TRY(rope.factor, positive(object, "factor", stretch));
      MI_TRY(rope.attention_factor,
             positive(object, "attention_factor",
                      longrope_attention_factor(rope.factor, rope.original_context)));
      return {};
    }
  }
  return {};
}

// The object under the key, or its part for layers that attend to all keys.
Result<JsonObject> of_full_layers(const JsonObject& config, std::string_view key) {
  MI_TRY(JsonObject object, config.object(key));
  if (!object.has("full_attention")) return object;
  return object.object("full_attention");
}

}  // namespace

Result<Rope> read_hf_local_rope(const JsonObject& config, int head_dim, double theta) {
  Rope rope;
  rope.dim = head_dim;
  MI_TRY(rope.theta, config.number("rope_local_base_freq", theta));
  if (!config.has("rope_parameters")) return rope;
  MI_TRY(const JsonObject both, config.object("rope_parameters"));
  if (!both.has("sliding_attention")) return rope;
  MI_TRY(const JsonObject object, both.object("sliding_attention"));
  MI_TRY(rope.theta, object.number("rope_theta", rope.theta));
  MI_TRY(const RopeScaling scaling, scaling_of(object));
  if (scaling != RopeScaling::none) return object.wrong("rope_type", "\"default\"");
  return rope;
}

Result<Rope> read_hf_rope(const JsonObject& config, int head_dim, int64_t context) {
  Rope rope;
  double share = 1;
  MI_TRY(rope.theta, config.number("rope_theta", 10000.0));
  MI_TRY(share, config.number("partial_rotary_factor", 1.0));
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    MI_TRY(const JsonObject object, of_full_layers(config, key));
    MI_TRY(rope.theta, object.number("rope_theta", rope.theta));
    MI_TRY(share, object.number("partial_rotary_factor", share));
  }
  if (!(share > 0 && share <= 1))
    return config.wrong("partial_rotary_factor", "a number above 0, up to 1");
  rope.dim = static_cast<int>(head_dim * share);
  if (share < 1 && (rope.dim < 2 || rope.dim % 2 != 0))
    return fail(Code::unsupported,
                fmt::format("{}: got {} of head_dim {}, supported: an even number of dimensions",
                            config.place("partial_rotary_factor"), share, head_dim));
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    MI_TRY(const JsonObject object, of_full_layers(config, key));
    MI_TRY(rope.scaling, scaling_of(object));
    MI_CHECK(read_scaling(config, object, context, rope));
  }
  if (rope.scaling == RopeScaling::dynamic && rope.dim < 4)
    return fail(Code::unsupported, fmt::format("{}: dynamic scaling of {} rotary dimensions, "
                                               "supported: at least 4",
                                               config.place("rope_scaling"), rope.dim));
  return rope;
}

}  // namespace mi::search
