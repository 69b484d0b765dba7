#include <array>
#include <unordered_set>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"

namespace mi::search {
namespace {

enum class Extent {
  none,
  head_dim,
  hidden,
  ffn,
  q_width,
  kv_width,
  vocab,
  qkv_width,
  two_ffn,
  experts
};
using enum Extent;

int64_t extent(const ModelSpec& spec, Extent which) {
  const int64_t q = int64_t{spec.heads} * spec.head_dim;
  const int64_t kv = int64_t{spec.kv_heads} * spec.head_dim;
  switch (which) {
    case Extent::none:
      break;
    case Extent::head_dim:
      return spec.head_dim;
    case Extent::hidden:
      return spec.hidden;
    case Extent::ffn:
      return spec.ffn;
    case Extent::q_width:
      return q;
    case Extent::kv_width:
      return kv;
    case Extent::vocab:
      return spec.vocab;
    case Extent::qkv_width:
      return q + 2 * kv;
    case Extent::two_ffn:
      return 2 * int64_t{spec.ffn};
    case Extent::experts:
      return spec.experts;
  }
  return 0;
}

// What must hold of a model for it to have a tensor.
enum class When {
  always,
  qkv_bias,
  o_bias,
  qk_norm,
  glm_norms,
  gemma_norms,
  no_gemma_norms,
  plain_qkv,
  plain_gate_up,
  experts
};

template <class Owner>
struct Entry {
  const WeightTensor* Owner::*slot;
  std::string_view hugging_face;
  std::string_view gguf;
  Extent rows;  // none: a vector
  Extent columns;
  When when = When::always;
};

using L = LayerWeights;

// Names follow "model.layers.<n>." and "blk.<n>.". What stands before the MLP is post_attention to
// Llama's checkpoints; where something stands behind attention, too, GLM's call that
// post_self_attn, and Gemma's rename what stands before the MLP.
constexpr std::array kLayerTensors = {
    Entry<L>{&L::attention_norm, "input_layernorm.weight", "attn_norm.weight", none, hidden},
    Entry<L>{&L::q, "self_attn.q_proj.weight", "attn_q.weight", q_width, hidden, When::plain_qkv},
    Entry<L>{&L::k, "self_attn.k_proj.weight", "attn_k.weight", kv_width, hidden, When::plain_qkv},
    Entry<L>{&L::v, "self_attn.v_proj.weight", "attn_v.weight", kv_width, hidden, When::plain_qkv},
    Entry<L>{&L::q_bias, "self_attn.q_proj.bias", "attn_q.bias", none, q_width, When::qkv_bias},
    Entry<L>{&L::k_bias, "self_attn.k_proj.bias", "attn_k.bias", none, kv_width, When::qkv_bias},
    Entry<L>{&L::v_bias, "self_attn.v_proj.bias", "attn_v.bias", none, kv_width, When::qkv_bias},
    Entry<L>{&L::q_norm, "self_attn.q_norm.weight", "attn_q_norm.weight", none, head_dim,
             When::qk_norm},
    Entry<L>{&L::k_norm, "self_attn.k_norm.weight", "attn_k_norm.weight", none, head_dim,
             When::qk_norm},
    Entry<L>{&L::o, "self_attn.o_proj.weight", "attn_output.weight", hidden, q_width},
    Entry<L>{&L::o_bias, "self_attn.o_proj.bias", "attn_output.bias", none, hidden, When::o_bias},
    Entry<L>{&L::post_attention_norm, "post_self_attn_layernorm.weight",
             "post_attention_norm.weight", none, hidden, When::glm_norms},
    Entry<L>{&L::post_attention_norm, "post_attention_layernorm.weight",
             "post_attention_norm.weight", none, hidden, When::gemma_norms},
    Entry<L>{&L::ffn_norm, "post_attention_layernorm.weight", "ffn_norm.weight", none, hidden,
             When::no_gemma_norms},
    Entry<L>{&L::ffn_norm, "pre_feedforward_layernorm.weight", "ffn_norm.weight", none, hidden,
             When::gemma_norms},
    Entry<L>{&L::post_ffn_norm, "post_mlp_layernorm.weight", "post_ffw_norm.weight", none, hidden,
             When::glm_norms},
    Entry<L>{&L::post_ffn_norm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", none,
             hidden, When::gemma_norms},
    Entry<L>{&L::router, "mlp.gate.weight", "ffn_gate_inp.weight", experts, hidden, When::experts},
};

using M = MlpWeights;

constexpr std::array kMlpTensors = {
    Entry<M>{&M::gate, "mlp.gate_proj.weight", "ffn_gate.weight", ffn, hidden, When::plain_gate_up},
    Entry<M>{&M::up, "mlp.up_proj.weight", "ffn_up.weight", ffn, hidden, When::plain_gate_up},
    Entry<M>{&M::down, "mlp.down_proj.weight", "ffn_down.weight", hidden, ffn},
};
// Of one expert: below "mlp.experts.<n>." to Hugging Face; in GGUF one tensor holds all of them.
constexpr std::array kExpertTensors = {
    Entry<M>{&M::gate, "gate_proj.weight", "ffn_gate_exps.weight", ffn, hidden},
    Entry<M>{&M::up, "up_proj.weight", "ffn_up_exps.weight", ffn, hidden},
    Entry<M>{&M::down, "down_proj.weight", "ffn_down_exps.weight", hidden, ffn},
};

// Tensors that hold several: their rows are those of the parts in turn.
struct Fused {
  const WeightTensor* whole = nullptr;
};
constexpr Entry<Fused> kFusedQkv = {&Fused::whole, "self_attn.qkv_proj.weight", "attn_qkv.weight",
                                    qkv_width, hidden};
constexpr Entry<Fused> kFusedGateUp = {&Fused::whole, "mlp.gate_up_proj.weight", "ffn_up.weight",
                                       two_ffn, hidden};

using D = DecoderWeights;
constexpr std::array kModelTensors = {
    Entry<D>{&D::embedding, "model.embed_tokens.weight", "token_embd.weight", vocab, hidden},
    Entry<D>{&D::final_norm, "model.norm.weight", "output_norm.weight", none, hidden},
    Entry<D>{&D::head, "lm_head.weight", "output.weight", vocab, hidden},
};

class Binder {
 public:
  Binder(const ModelFamily& family, const ModelSpec& spec, const TensorTable& tensors,
         NameScheme scheme, const std::string& file)
      : family_(family), spec_(spec), tensors_(tensors), scheme_(scheme), file_(file) {}

  // copies: the tensor holds so many of that shape, one after the other; 0: it has that shape.
  template <class Owner>
  [[nodiscard]] Status bind(const Entry<Owner>& entry, std::string_view prefix, Owner& owner,
                            int copies = 0) {
    if (!has(entry.when)) return {};
    const bool hf = scheme_ == NameScheme::hugging_face;
    const std::string name = fmt::format("{}{}", prefix, hf ? entry.hugging_face : entry.gguf);
    const WeightTensor* tensor = tensors_.find(name);
    if (tensor == nullptr) {
      return fail(Code::schema, fmt::format("{}: tensor {} is missing", file_, name));
    }
    std::vector<int64_t> want;
    if (copies > 0) want.push_back(copies);
    if (entry.rows != none) want.push_back(extent(spec_, entry.rows));
    want.push_back(extent(spec_, entry.columns));
    if (tensor->shape != want) {
      return fail(Code::schema,
                  fmt::format("{}: tensor {}: got shape {}, expected {}", tensor->file, name,
                              shape_text(tensor->shape), shape_text(want)));
    }
    owner.*entry.slot = tensor;
    used_.insert(tensor);
    return {};
  }

  // The parts of a fused tensor, whose rows they share out.
  template <class Owner>
  [[nodiscard]] Status bind_parts(const Entry<Fused>& entry, std::string_view prefix,
                                  std::initializer_list<const WeightTensor * Owner::*> slots,
                                  std::initializer_list<Extent> rows, Owner& owner,
                                  std::deque<WeightTensor>& parts) {
    Fused fused;
    MI_CHECK(bind(entry, prefix, fused));
    int64_t begin = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      const int64_t count = extent(spec_, rows.begin()[i]);
      owner.*slots.begin()[i] = part_of(*fused.whole, begin, count, parts);
      begin += count;
    }
    return {};
  }

  [[nodiscard]] Status bind_experts(std::string_view prefix, std::vector<MlpWeights>& mlps,
                                    std::deque<WeightTensor>& parts) {
    mlps.resize(static_cast<size_t>(spec_.experts));
    if (scheme_ == NameScheme::hugging_face) {
      for (size_t e = 0; e < mlps.size(); ++e)
        for (const auto& entry : kExpertTensors)
          MI_CHECK(bind(entry, fmt::format("{}mlp.experts.{}.", prefix, e), mlps[e]));
      return {};
    }
    for (const auto& entry : kExpertTensors) {
      MlpWeights all;
      MI_CHECK(bind(entry, prefix, all, spec_.experts));
      const int64_t rows = extent(spec_, entry.rows);
      for (size_t e = 0; e < mlps.size(); ++e)
        mlps[e].*entry.slot =
            part_of(*(all.*entry.slot), static_cast<int64_t>(e) * rows, rows, parts);
    }
    return {};
  }

  // A tensor that nobody asked for would silently change the model.
  [[nodiscard]] Status check_unused() const {
    for (const WeightTensor& tensor : tensors_.tensors()) {
      const bool harmless =
          tensor.name.ends_with(".rotary_emb.inv_freq") ||  // derived from the rotary base
          tensor.name.starts_with("rope_f") ||              // GGUF: part of the description
          (spec_.tied_embeddings && tensor.name == "lm_head.weight");
      if (!used_.contains(&tensor) && !harmless) {
        return fail(Code::unsupported,
                    fmt::format("{}: tensor {} has no place in a {} decoder of {} layers",
                                tensor.file, tensor.name, family_.name, spec_.decoder_layers()));
      }
    }
    return {};
  }

 private:
  // Rows [begin, begin + count) as a tensor of their own.
  static const WeightTensor* part_of(const WeightTensor& whole, int64_t begin, int64_t count,
                                     std::deque<WeightTensor>& parts) {
    const auto row_bytes = whole.data.size() / static_cast<size_t>(whole.rows());
    WeightTensor& part = parts.emplace_back(whole);
    part.shape = {count, whole.columns()};
    part.data = whole.data.subspan(static_cast<size_t>(begin) * row_bytes,
                                   static_cast<size_t>(count) * row_bytes);
    return &part;
  }

  [[nodiscard]] bool has(When when) const {
    switch (when) {
      case When::always:
        return true;
      case When::qkv_bias:
        return spec_.qkv_bias;
      case When::o_bias:
        return spec_.o_bias;
      case When::qk_norm:
        return family_.qk_norm;
      case When::glm_norms:
        return family_.norms == ModelFamily::Norms::glm;
      case When::gemma_norms:
        return family_.norms == ModelFamily::Norms::gemma;
      case When::no_gemma_norms:
        return family_.norms != ModelFamily::Norms::gemma;
      case When::plain_qkv:
        return !family_.fused_qkv;
      case When::plain_gate_up:
        return !family_.fused_gate_up;
      case When::experts:
        return family_.experts;
    }
    return false;
  }

  const ModelFamily& family_;
  const ModelSpec& spec_;
  const TensorTable& tensors_;
  NameScheme scheme_;
  const std::string& file_;
  std::unordered_set<const WeightTensor*> used_;
};

}  // namespace

Result<DecoderWeights> bind(const ModelFamily& family, const ModelSpec& spec,
                            const TensorTable& tensors, NameScheme scheme,
                            const std::string& file) {
  const bool hf = scheme == NameScheme::hugging_face;
  DecoderWeights weights;
  weights.interleaved_rotary = hf ? family.interleaved_hf : family.interleaved_gguf;
  weights.norm_offset = hf && family.norms == ModelFamily::Norms::gemma ? 1 : 0;
  Binder binder(family, spec, tensors, scheme, file);
  for (const auto& entry : kModelTensors) {
    if (entry.slot == &DecoderWeights::head && spec.tied_embeddings) continue;
    MI_CHECK(binder.bind(entry, "", weights));
  }
  if (spec.tied_embeddings) weights.head = weights.embedding;
  // One layer at a time: a file that claims 4096 layers fails at the first that is missing.
  for (int layer = 0; layer < spec.decoder_layers(); ++layer) {
    const std::string prefix = fmt::format("{}{}.", hf ? "model.layers." : "blk.", layer);
    LayerWeights& slots = weights.layers.emplace_back();
    for (const auto& entry : kLayerTensors) MI_CHECK(binder.bind(entry, prefix, slots));
    if (family.fused_qkv)
      MI_CHECK(binder.bind_parts(kFusedQkv, prefix, {&L::q, &L::k, &L::v},
                                 {q_width, kv_width, kv_width}, slots, weights.parts));
    if (family.experts) {
      MI_CHECK(binder.bind_experts(prefix, slots.mlps, weights.parts));
      continue;
    }
    MlpWeights& mlp = slots.mlps.emplace_back();
    for (const auto& entry : kMlpTensors) MI_CHECK(binder.bind(entry, prefix, mlp));
    if (family.fused_gate_up)
      MI_CHECK(binder.bind_parts(kFusedGateUp, prefix, {&M::gate, &M::up}, {ffn, ffn}, mlp,
                                 weights.parts));
  }
  MI_CHECK(binder.check_unused());
  return weights;
}

}  // namespace mi::search
