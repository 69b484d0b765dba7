#include <array>
#include <unordered_set>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"

namespace mi::search {
namespace {

enum class Extent { none, head_dim, hidden, ffn, q_width, kv_width, vocab, qkv_width, two_ffn };
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
  }
  return 0;
}

// What must hold of a model for it to have a tensor.
enum class When { always, qkv_bias, o_bias, qk_norm, post_norms, plain_qkv, plain_gate_up };

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
// Llama's checkpoints; where something stands behind attention, too, that is post_self_attn.
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
             "post_attention_norm.weight", none, hidden, When::post_norms},
    Entry<L>{&L::ffn_norm, "post_attention_layernorm.weight", "ffn_norm.weight", none, hidden},
    Entry<L>{&L::gate, "mlp.gate_proj.weight", "ffn_gate.weight", ffn, hidden, When::plain_gate_up},
    Entry<L>{&L::up, "mlp.up_proj.weight", "ffn_up.weight", ffn, hidden, When::plain_gate_up},
    Entry<L>{&L::down, "mlp.down_proj.weight", "ffn_down.weight", hidden, ffn},
    Entry<L>{&L::post_ffn_norm, "post_mlp_layernorm.weight", "post_ffw_norm.weight", none, hidden,
             When::post_norms},
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
  Binder(const Family& family, const ModelSpec& spec, const TensorTable& tensors, NameScheme scheme,
         const std::string& file)
      : family_(family), spec_(spec), tensors_(tensors), scheme_(scheme), file_(file) {}

  template <class Owner>
  [[nodiscard]] Status bind(const Entry<Owner>& entry, std::string_view prefix, Owner& owner) {
    if (!has(entry.when)) return {};
    const bool hf = scheme_ == NameScheme::hugging_face;
    const std::string name = fmt::format("{}{}", prefix, hf ? entry.hugging_face : entry.gguf);
    const WeightTensor* tensor = tensors_.find(name);
    if (tensor == nullptr) {
      return fail(Code::schema, fmt::format("{}: tensor {} is missing", file_, name));
    }
    std::vector<int64_t> want;
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
  [[nodiscard]] Status bind_parts(const Entry<Fused>& entry, std::string_view prefix,
                                  std::initializer_list<const WeightTensor * L::*> slots,
                                  std::initializer_list<Extent> rows, L& layer,
                                  std::deque<WeightTensor>& parts) {
    Fused fused;
    MI_CHECK(bind(entry, prefix, fused));
    const WeightTensor& whole = *fused.whole;
    const auto row_bytes = whole.data.size() / static_cast<size_t>(whole.rows());
    size_t begin = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      const int64_t count = extent(spec_, rows.begin()[i]);
      WeightTensor& part = parts.emplace_back(whole);
      part.shape[0] = count;
      part.data = whole.data.subspan(begin, static_cast<size_t>(count) * row_bytes);
      begin += part.data.size();
      layer.*slots.begin()[i] = &part;
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
                                tensor.file, tensor.name, family_.name, spec_.layers));
      }
    }
    return {};
  }

 private:
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
      case When::post_norms:
        return family_.post_norms;
      case When::plain_qkv:
        return !family_.fused_qkv;
      case When::plain_gate_up:
        return !family_.fused_gate_up;
    }
    return false;
  }

  const Family& family_;
  const ModelSpec& spec_;
  const TensorTable& tensors_;
  NameScheme scheme_;
  const std::string& file_;
  std::unordered_set<const WeightTensor*> used_;
};

}  // namespace

Result<DecoderWeights> bind(const Family& family, const ModelSpec& spec, const TensorTable& tensors,
                            NameScheme scheme, const std::string& file) {
  const bool hf = scheme == NameScheme::hugging_face;
  DecoderWeights weights;
  weights.interleaved_rotary = hf ? family.interleaved_hf : family.interleaved_gguf;
  Binder binder(family, spec, tensors, scheme, file);
  for (const auto& entry : kModelTensors) {
    if (entry.slot == &DecoderWeights::head && spec.tied_embeddings) continue;
    MI_CHECK(binder.bind(entry, "", weights));
  }
  if (spec.tied_embeddings) weights.head = weights.embedding;
  // One layer at a time: a file that claims 4096 layers fails at the first that is missing.
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string prefix = fmt::format("{}{}.", hf ? "model.layers." : "blk.", layer);
    LayerWeights& slots = weights.layers.emplace_back();
    for (const auto& entry : kLayerTensors) MI_CHECK(binder.bind(entry, prefix, slots));
    if (family.fused_qkv)
      MI_CHECK(binder.bind_parts(kFusedQkv, prefix, {&L::q, &L::k, &L::v},
                                 {q_width, kv_width, kv_width}, slots, weights.parts));
    if (family.fused_gate_up)
      MI_CHECK(binder.bind_parts(kFusedGateUp, prefix, {&L::gate, &L::up}, {ffn, ffn}, slots,
                                 weights.parts));
  }
  MI_CHECK(binder.check_unused());
  return weights;
}

}  // namespace mi::search
