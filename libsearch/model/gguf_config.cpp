#include "libsearch/model/gguf_config.h"

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
Status check_options(const GgufFile& file, const Keys& key, const ModelSpec& spec) {
  const auto unsupported = [&](std::string_view name, std::string_view got,
                               std::string_view supported) {
    return fail(Code::unsupported, fmt::format("{}: metadata {}: got {}, supported: {}",
                                               file.file_name(), key(name), got, supported));
  };
  MI_TRY(const auto scaling, file.string(key("rope.scaling.type"), "none"));
  if (scaling != "none") return unsupported("rope.scaling.type", scaling, "none");
  MI_TRY(const int64_t experts, file.integer(key("expert_count"), 0));
  if (experts != 0) return unsupported("expert_count", fmt::to_string(experts), "0");
  for (const std::string_view name : {"attention.key_length", "attention.value_length"}) {
    MI_TRY(const int64_t length, file.integer(key(name), spec.head_dim));
    if (length != spec.head_dim) {
      return unsupported(name, fmt::to_string(length), fmt::to_string(spec.head_dim));
    }
  }
  MI_TRY(const int64_t rotary, file.integer(key("rope.dimension_count"), spec.head_dim));
  if (rotary != spec.head_dim) {
    return unsupported("rope.dimension_count", fmt::to_string(rotary),
                       fmt::format("the head dimension, {}", spec.head_dim));
  }
  for (const std::string_view name :
       {"attention.sliding_window", "rope.scale_linear", "rope.scaling.factor", "attention.scale",
        "logit_scale", "residual_scale", "embedding_scale"}) {
    if (file.has(key(name))) return unsupported(name, "a value", "absent");
  }
  return {};
}

}  // namespace

Result<ModelSpec> read_gguf_config(const GgufFile& file) {
  MI_TRY(const auto architecture, file.string("general.architecture"));
  const Family* family = nullptr;
  for (const Family& candidate : families()) {
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
  MI_TRY(spec.rope_theta, file.number(key("rope.freq_base"), 10000.0));
  MI_TRY(spec.rms_eps, file.number(key("attention.layer_norm_rms_epsilon")));
  spec.tied_embeddings = file.tensors().find("output.weight") == nullptr;
  MI_CHECK(check_options(file, key, spec));
  MI_CHECK(check_spec(spec, file.file_name()));
  return spec;
}

}  // namespace mi::search
