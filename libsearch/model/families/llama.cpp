// Llama and what is built like it: RMSNorm, rotary embedding, grouped-query attention, SwiGLU.
#include <array>
#include <unordered_set>

#include <fmt/format.h>

#include "libsearch/model/families/family.h"

namespace mi::search {
namespace {

enum class Extent { none, hidden, ffn, q_width, kv_width, vocab };

int64_t extent(const ModelSpec& spec, Extent which) {
  switch (which) {
    case Extent::none:
      break;
    case Extent::hidden:
      return spec.hidden;
    case Extent::ffn:
      return spec.ffn;
    case Extent::q_width:
      return int64_t{spec.heads} * spec.head_dim;
    case Extent::kv_width:
      return int64_t{spec.kv_heads} * spec.head_dim;
    case Extent::vocab:
      return spec.vocab;
  }
  return 0;
}

template <class Owner>
struct Entry {
  const WeightTensor* Owner::*slot;
  std::string_view hugging_face;
  std::string_view gguf;
  Extent rows;  // none: a vector
  Extent columns;
};

using enum Extent;

// Names follow "model.layers.<n>." and "blk.<n>.".
constexpr std::array kLayerTensors = {
    Entry<LayerWeights>{&LayerWeights::attention_norm, "input_layernorm", "attn_norm", none,
                        hidden},
    Entry<LayerWeights>{&LayerWeights::q, "self_attn.q_proj", "attn_q", q_width, hidden},
    Entry<LayerWeights>{&LayerWeights::k, "self_attn.k_proj", "attn_k", kv_width, hidden},
    Entry<LayerWeights>{&LayerWeights::v, "self_attn.v_proj", "attn_v", kv_width, hidden},
    Entry<LayerWeights>{&LayerWeights::o, "self_attn.o_proj", "attn_output", hidden, q_width},
    Entry<LayerWeights>{&LayerWeights::ffn_norm, "post_attention_layernorm", "ffn_norm", none,
                        hidden},
    Entry<LayerWeights>{&LayerWeights::gate, "mlp.gate_proj", "ffn_gate", ffn, hidden},
    Entry<LayerWeights>{&LayerWeights::up, "mlp.up_proj", "ffn_up", ffn, hidden},
    Entry<LayerWeights>{&LayerWeights::down, "mlp.down_proj", "ffn_down", hidden, ffn},
};

constexpr std::array kModelTensors = {
    Entry<DecoderWeights>{&DecoderWeights::embedding, "model.embed_tokens", "token_embd", vocab,
                          hidden},
    Entry<DecoderWeights>{&DecoderWeights::final_norm, "model.norm", "output_norm", none, hidden},
    Entry<DecoderWeights>{&DecoderWeights::head, "lm_head", "output", vocab, hidden},
};

class Binder {
 public:
  Binder(const ModelSpec& spec, const TensorTable& tensors, NameScheme scheme,
         const std::string& file)
      : spec_(spec), tensors_(tensors), scheme_(scheme), file_(file) {}

  template <class Owner>
  [[nodiscard]] Status bind(const Entry<Owner>& entry, std::string_view prefix, Owner& owner) {
    const bool hf = scheme_ == NameScheme::hugging_face;
    const std::string name =
        fmt::format("{}{}.weight", prefix, hf ? entry.hugging_face : entry.gguf);
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

  // A tensor that nobody asked for (a bias, rotary factors) would silently change the model.
  [[nodiscard]] Status check_unused() const {
    for (const WeightTensor& tensor : tensors_.tensors()) {
      const bool harmless =
          tensor.name.ends_with(".rotary_emb.inv_freq") ||  // derived from rope_theta
          (spec_.tied_embeddings && tensor.name == "lm_head.weight");
      if (!used_.contains(&tensor) && !harmless) {
        return fail(Code::unsupported,
                    fmt::format("{}: tensor {} has no place in a llama decoder of {} layers",
                                tensor.file, tensor.name, spec_.layers));
      }
    }
    return {};
  }

 private:
  const ModelSpec& spec_;
  const TensorTable& tensors_;
  NameScheme scheme_;
  const std::string& file_;
  std::unordered_set<const WeightTensor*> used_;
};

}  // namespace

Result<DecoderWeights> bind_llama(const ModelSpec& spec, const TensorTable& tensors,
                                  NameScheme scheme, const std::string& file) {
  DecoderWeights weights;
  weights.interleaved_rotary = scheme == NameScheme::gguf;  // as llama.cpp's converter writes them
  Binder binder(spec, tensors, scheme, file);
  for (const auto& entry : kModelTensors) {
    if (entry.slot == &DecoderWeights::head && spec.tied_embeddings) continue;
    MI_CHECK(binder.bind(entry, "", weights));
  }
  if (spec.tied_embeddings) weights.head = weights.embedding;
  // One layer at a time: a file that claims 4096 layers fails at the first that is missing.
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string prefix = scheme == NameScheme::hugging_face
                                   ? fmt::format("model.layers.{}.", layer)
                                   : fmt::format("blk.{}.", layer);
    LayerWeights& slots = weights.layers.emplace_back();
    for (const auto& entry : kLayerTensors) MI_CHECK(binder.bind(entry, prefix, slots));
  }
  MI_CHECK(binder.check_unused());
  return weights;
}

}  // namespace mi::search
