#include "libsearch/model/gguf_config.h"

#include <cmath>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"
#include "libsearch/model/spec_check.h"

namespace mi::search {
namespace {

// Keys "llama.block_count", ... of one architecture.
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(fmt::format("{}.", architecture)) {}

  [[nodiscard]] std::string operator()(std::string_view name) const {
    return prefix_ + std::string(name);
  }
  [[nodiscard]] Status size(std::string_view name, int64_t limit, int& field,
                            std::optional<int64_t> fallback = {}) const {
    MI_TRY(const int64_t value, file_.integer((*this)(name), fallback));
    if (value < 1 || value > limit) {
      return fail(Code::schema, fmt::format("{}: metadata {}: got {}, expected 1 to {}",
                                            file_.file_name(), (*this)(name), value, limit));
    }
    field = static_cast<int>(value);
    return {};
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

// Options that change the arithmetic and that the decoder does not do.
Status check_options(const GgufFile& file, const Keys& key, const ModelFamily& family,
                     const ModelSpec& spec) {
  const auto unsupported = [&](std::string_view name, std::string_view got,
                               std::string_view supported) {
    return fail(Code::unsupported, fmt::format("{}: metadata {}: got {}, supported: {}",
                                               file.file_name(), key(name), got, supported));
  };
  MI_TRY(const int64_t experts, file.integer(key("expert_count"), 0));
  if (experts != 0 && !family.experts)
    return unsupported("expert_count", fmt::to_string(experts), "0");
  for (const std::string_view name : {"attention.key_length", "attention.value_length"}) {
    MI_TRY(const int64_t length, file.integer(key(name), spec.head_dim));
    if (length != spec.head_dim) {
      return unsupported(name, fmt::to_string(length), fmt::to_string(spec.head_dim));
    }
  }
  for (const std::string_view name : {"rope.scale_linear", "attention.scale", "logit_scale",
                                      "residual_scale", "embedding_scale"}) {
    if (file.has(key(name))) return unsupported(name, "a value", "absent");
  }
  return {};
}

// The divisors of every pair's angle that a tensor holds.
Result<std::vector<double>> factors(const GgufFile& file, std::string_view name, int pairs) {
  const WeightTensor* tensor = file.tensors().find(name);
  const auto wrong = [&](std::string_view found) {
    return fail(Code::schema, fmt::format("{}: tensor {}: found {}, expected {} numbers above 0",
                                          file.file_name(), name, found, pairs));
  };
  if (tensor == nullptr) return wrong("none");
  if (tensor->shape != std::vector<int64_t>{pairs}) return wrong(shape_text(tensor->shape));
  std::vector<float> values(static_cast<size_t>(pairs));
  MI_CHECK(convert_rows(*tensor, 0, 1, values.data()));
  for (const float value : values)
    if (!(value > 0)) return wrong(fmt::to_string(value));
  return std::vector<double>(values.begin(), values.end());
}

Result<Rope> read_rope(const GgufFile& file, const Keys& key, const ModelSpec& spec) {
  Rope rope;
  MI_TRY(rope.theta, file.number(key("rope.freq_base"), 10000.0));
  MI_TRY(const int64_t dim, file.integer(key("rope.dimension_count"), spec.head_dim));
  if (dim < 2 || dim > spec.head_dim || dim % 2 != 0)
    return fail(Code::unsupported,
                fmt::format("{}: metadata {}: got {}, supported: even, 2 to the head dimension, {}",
                            file.file_name(), key("rope.dimension_count"), dim, spec.head_dim));
  rope.dim = static_cast<int>(dim);
  MI_TRY(rope.original_context,
         file.integer(key("rope.scaling.original_context_length"), spec.context));
  if (rope.original_context < 1 || rope.original_context > kMaxContext)
    return fail(Code::schema,
                fmt::format("{}: metadata {}: got {}, expected 1 to {}", file.file_name(),
                            key("rope.scaling.original_context_length"), rope.original_context,
                            kMaxContext));
  const auto positive = [&](std::string_view name, std::optional<double> fallback,
                            double& value) -> Status {
    MI_TRY(value, file.number(key(name), fallback));
    if (value > 0 && value <= 1e9) return {};
    return fail(Code::schema, fmt::format("{}: metadata {}: got {}, expected above 0, up to 1e9",
                                          file.file_name(), key(name), value));
  };
  MI_TRY(const auto type, file.string(key("rope.scaling.type"), "none"));
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    MI_CHECK(positive("rope.scaling.factor", {}, rope.factor));
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    MI_CHECK(positive("rope.scaling.factor", {}, rope.factor));
    double scale = 1;  // on top of YaRN's own
    MI_CHECK(positive("rope.scaling.attn_factor", 1, scale));
    rope.attention_factor = scale * yarn_attention_factor(rope.factor);
  } else if (type != "none" && type != "longrope") {
    return fail(Code::unsupported,
                fmt::format("{}: metadata {}: got {}, supported: none, linear, yarn, longrope",
                            file.file_name(), key("rope.scaling.type"), type));
  }
  // Llama 3's scaling is in the file as the divisors that it comes to, LongRoPE's as its own two
  // sets, whatever the type says.
  if (file.tensors().find("rope_freqs.weight") != nullptr) {
    rope.scaling = RopeScaling::factors;
    MI_TRY(rope.short_factors, factors(file, "rope_freqs.weight", rope.dim / 2));
    rope.long_factors = rope.short_factors;
  } else if (file.tensors().find("rope_factors_long.weight") != nullptr || type == "longrope") {
    rope.scaling = RopeScaling::factors;
    MI_TRY(rope.short_factors, factors(file, "rope_factors_short.weight", rope.dim / 2));
    MI_TRY(rope.long_factors, factors(file, "rope_factors_long.weight", rope.dim / 2));
    MI_CHECK(positive("rope.scaling.attn_factor", 1, rope.attention_factor));
  }
  return rope;
}

// Which layers see a window of keys only: the file names the window, its architecture the layers.
Status read_windows(const GgufFile& file, const Keys& key, const ModelFamily& family,
                    ModelSpec& spec) {
  MI_TRY(const int64_t window, file.integer(key("attention.sliding_window"), 0));
  if (window < 0 || window > kMaxContext)
    return fail(Code::schema,
                fmt::format("{}: metadata {}: got {}, expected 0 to {}", file.file_name(),
                            key("attention.sliding_window"), window, kMaxContext));
  std::vector<int64_t> windows(static_cast<size_t>(spec.layers), window);
  if (family.full_every > 0)
    for (size_t i = 0; i < windows.size(); ++i)
      if ((i + 1) % static_cast<size_t>(family.full_every) == 0) windows[i] = 0;
  set_windows(std::move(windows), spec);
  return {};
}

// Gemma 2 and 3 of 27B scale scores by the width that a head has of the stream, not by head_dim;
// the file does not say so, and llama.cpp knows them by their number of layers.
Status read_scores(const GgufFile& file, const Keys& key, const ModelFamily& family,
                   ModelSpec& spec) {
  if (family.norms != ModelFamily::Norms::gemma) return {};
  constexpr int kLayersOf27B[] = {46, 62};
  if (spec.layers == kLayersOf27B[family.qk_norm ? 1 : 0] &&
      spec.hidden != spec.heads * spec.head_dim)
    spec.scale = 1 / std::sqrt(static_cast<double>(spec.hidden) / spec.heads);
  const auto cap = [&](std::string_view name, double& value) -> Status {
    MI_TRY(value, file.number(key(name), 0.0));
    if (value >= 0 && value <= 1e9) return {};
    return fail(Code::schema, fmt::format("{}: metadata {}: got {}, expected 0 to 1e9",
                                          file.file_name(), key(name), value));
  };
  MI_CHECK(cap("attn_logit_softcapping", spec.softcap));
  return cap("final_logit_softcapping", spec.logit_softcap);
}

Status read_experts(const Keys& key, const ModelFamily& family, ModelSpec& spec) {
  if (!family.experts) return {};
  MI_CHECK(key.size("expert_count", kMaxExperts, spec.experts));
  MI_CHECK(key.size("expert_used_count", spec.experts, spec.experts_used));
  spec.norm_experts = true;  // as llama.cpp runs this architecture
  return key.size("expert_feed_forward_length", kMaxWidth, spec.ffn);
}

}  // namespace

Result<ModelSpec> read_gguf_config(const GgufFile& file) {
  MI_TRY(const auto architecture, file.string("general.architecture"));
  const ModelFamily* family = nullptr;
  for (const ModelFamily& candidate : families()) {
    if (candidate.gguf_architecture == architecture) family = &candidate;
  }
  if (family == nullptr) {
    return fail(Code::unsupported,
                fmt::format("{}: metadata general.architecture: got {}, supported: {}",
                            file.file_name(), architecture, supported_gguf_architectures()));
  }
  MI_TRY(const int64_t parts, file.integer("split.count", 1));
  if (parts > 1) {
    return fail(Code::unsupported, fmt::format("{}: metadata split.count: got {}, supported: 1 "
                                               "(files in one part)",
                                               file.file_name(), parts));
  }
  const Keys key(file, architecture);
  ModelSpec spec;
  spec.architecture = std::string(family->name);
  MI_TRY(const auto name, file.string("general.name", ""));
  spec.name = std::string(name);
  MI_CHECK(key.size("block_count", kMaxLayers, spec.layers));
  MI_CHECK(key.size("embedding_length", kMaxWidth, spec.hidden));
  MI_CHECK(key.size("feed_forward_length", kMaxWidth, spec.ffn));
  MI_CHECK(key.size("attention.head_count", kMaxWidth, spec.heads));
  MI_CHECK(key.size("attention.head_count_kv", kMaxWidth, spec.kv_heads, spec.heads));
  MI_CHECK(key.size("attention.key_length", kMaxWidth, spec.head_dim,
                    std::max(1, spec.hidden / spec.heads)));
  MI_TRY(const auto tokens, file.tensors().find("token_embd.weight") == nullptr
                                ? Result<int64_t>(0)
                                : file.tensors().find("token_embd.weight")->rows());
  MI_CHECK(key.size("vocab_size", kMaxVocab, spec.vocab, tokens));
  MI_TRY(spec.context, file.integer(key("context_length")));
  if (spec.context < 1 || spec.context > kMaxContext) {
    return fail(Code::schema,
                fmt::format("{}: metadata {}: got {}, expected 1 to {}", file.file_name(),
                            key("context_length"), spec.context, kMaxContext));
  }
  MI_TRY(spec.rope, read_rope(file, key, spec));
  spec.local_rope = spec.rope;
  if (family->local_theta > 0) {
    spec.local_rope = {};
    spec.local_rope.dim = spec.head_dim;
    MI_TRY(spec.local_rope.theta, file.number(key("rope.freq_base_swa"), family->local_theta));
  }
  spec.gelu = family->gelu;
  if (family->scaled_embedding) spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden));
  MI_CHECK(read_scores(file, key, *family, spec));
  MI_CHECK(read_experts(key, *family, spec));
  MI_CHECK(read_windows(file, key, *family, spec));
  spec.qkv_bias = file.tensors().find("blk.0.attn_q.bias") != nullptr;
  spec.o_bias = file.tensors().find("blk.0.attn_output.bias") != nullptr;
  MI_TRY(spec.rms_eps, file.number(key("attention.layer_norm_rms_epsilon")));
  spec.tied_embeddings = file.tensors().find("output.weight") == nullptr;
  MI_CHECK(check_options(file, key, *family, spec));
  MI_CHECK(check_spec(spec, file.file_name()));
  return spec;
}

}  // namespace mi::search
