// A family says how its checkpoints differ from Llama's: which tensors a layer has besides, which
// of them are stored in one, and how rotary pairs lie. A new family is an entry in families().
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/model.h"
#include "libsearch/model/weights.h"

namespace mi::search {

struct MlpWeights {
  const WeightTensor* gate = nullptr;  // [ffn, hidden]
  const WeightTensor* up = nullptr;    // [ffn, hidden]
  const WeightTensor* down = nullptr;  // [hidden, ffn]
};

// The tensors of a decoder layer: x += post(Wo attention(norm(x))); x += post(Wdown(act(Wgate n) *
// Wup n)) with n = norm(x). Null: the family has none.
struct LayerWeights {
  const WeightTensor* attention_norm = nullptr;       // [hidden]
  const WeightTensor* q = nullptr;                    // [heads * head_dim, hidden]
  const WeightTensor* k = nullptr;                    // [kv_heads * head_dim, hidden]
  const WeightTensor* v = nullptr;                    // [kv_heads * head_dim, hidden]
  const WeightTensor* q_bias = nullptr;               // [heads * head_dim]
  const WeightTensor* k_bias = nullptr;               // [kv_heads * head_dim]
  const WeightTensor* v_bias = nullptr;               // [kv_heads * head_dim]
  const WeightTensor* q_norm = nullptr;               // [head_dim] of every head's q, before rotary
  const WeightTensor* k_norm = nullptr;               // [head_dim]
  const WeightTensor* o = nullptr;                    // [hidden, heads * head_dim]
  const WeightTensor* o_bias = nullptr;               // [hidden]
  const WeightTensor* post_attention_norm = nullptr;  // [hidden]
  const WeightTensor* ffn_norm = nullptr;             // [hidden]
  const WeightTensor* router = nullptr;               // [experts, hidden]
  std::vector<MlpWeights> mlps;                       // one, or one an expert
  const WeightTensor* post_ffn_norm = nullptr;        // [hidden]

  [[nodiscard]] std::vector<const WeightTensor*> large() const {
    std::vector<const WeightTensor*> all = {q, k, v, o};
    for (const MlpWeights& mlp : mlps) all.insert(all.end(), {mlp.gate, mlp.up, mlp.down});
    return all;
  }
};

struct DecoderWeights {
  const WeightTensor* embedding = nullptr;   // [vocab, hidden]
  const WeightTensor* final_norm = nullptr;  // [hidden]
  const WeightTensor* head = nullptr;        // [vocab, hidden]; the embedding when tied
  std::vector<LayerWeights> layers;
  // Rows of q and k are stored for rotary pairs (2i, 2i + 1) instead of (i, i + rope.dim / 2).
  bool interleaved_rotary = false;
  float norm_offset = 0;           // what is added to the weights of norms
  std::deque<WeightTensor> parts;  // of tensors that hold several
};

enum class NameScheme { hugging_face, gguf };

struct ModelFamily {
  enum class Bias {
    none,
    asked,         // q, k, v and o where config.json says attention_bias
    asked_of_qkv,  // the same without o
    qkv,           // always
  };
  enum class Norms {
    before,  // of attention's and the MLP's input
    glm,     // and of what they add to the stream
    gemma,   // the same under other names, and 1 is added to the weights of a checkpoint
  };
  std::string_view name;
  std::string_view hf_architecture;
  std::string_view gguf_architecture;
  // Of checkpoints that have such a decoder beside others: its keys are in text_config, and those
  // that config.json leaves out are what transformers' class says, as JSON.
  std::string_view hf_multimodal = {};
  std::string_view text_defaults = {};
  Bias bias = Bias::none;
  bool qk_norm = false;
  Norms norms = Norms::before;
  bool fused_qkv = false;      // one tensor holds q, k and v
  bool fused_gate_up = false;  // one tensor holds gate and up
  bool experts = false;
  bool gelu = false;              // the MLP's activation, by tanh; else SiLU
  bool scaled_embedding = false;  // by sqrt(hidden)
  bool tied_by_default = false;   // where config.json says nothing
  // A sliding_window in config.json counts only beside use_sliding_window, and from
  // max_window_layers on.
  bool window_is_asked = false;
  int full_every = 0;      // of so many layers, the last has no window; 0: all have one
  double local_theta = 0;  // rotary base of layers with a window; 0: as the others
  bool interleaved_hf = false;
  bool interleaved_gguf = false;
};

[[nodiscard]] std::span<const ModelFamily> families();
[[nodiscard]] std::string supported_hf_architectures();
[[nodiscard]] std::string supported_gguf_architectures();

// Finds every tensor, checks its shape, refuses tensors that it would have to ignore.
[[nodiscard]] Result<DecoderWeights> bind(const ModelFamily& family, const ModelSpec& spec,
                                          const TensorTable& tensors, NameScheme scheme,
                                          const std::string& file);

}  // namespace mi::search
