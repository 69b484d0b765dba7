// A family maps the names and flags of model files to the one decoder description. A new family
// is one file beside this one and an entry in families().
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/model.h"
#include "libsearch/model/weights.h"

namespace mi::search {

// The tensors of a decoder layer: x += Wo attention(norm(x)); x += Wdown(silu(Wgate n) * Wup n).
struct LayerWeights {
  const WeightTensor* attention_norm = nullptr;  // [hidden]
  const WeightTensor* q = nullptr;               // [heads * head_dim, hidden]
  const WeightTensor* k = nullptr;               // [kv_heads * head_dim, hidden]
  const WeightTensor* v = nullptr;               // [kv_heads * head_dim, hidden]
  const WeightTensor* o = nullptr;               // [hidden, heads * head_dim]
  const WeightTensor* ffn_norm = nullptr;        // [hidden]
  const WeightTensor* gate = nullptr;            // [ffn, hidden]
  const WeightTensor* up = nullptr;              // [ffn, hidden]
  const WeightTensor* down = nullptr;            // [hidden, ffn]
};

struct DecoderWeights {
  const WeightTensor* embedding = nullptr;   // [vocab, hidden]
  const WeightTensor* final_norm = nullptr;  // [hidden]
  const WeightTensor* head = nullptr;        // [vocab, hidden]; the embedding when tied
  std::vector<LayerWeights> layers;
  // Rows of q and k are stored for rotary pairs (2i, 2i + 1) instead of (i, i + head_dim/2).
  bool interleaved_rotary = false;
};

enum class NameScheme { hugging_face, gguf };

struct Family {
  std::string_view name;
  std::string_view hf_architecture;
  std::string_view gguf_architecture;
  // Finds every tensor, checks its shape, refuses tensors that it would have to ignore.
  Result<DecoderWeights> (*bind)(const ModelSpec& spec, const TensorTable& tensors,
                                 NameScheme scheme, const std::string& file);
};

[[nodiscard]] std::span<const Family> families();
[[nodiscard]] std::string supported_hf_architectures();
[[nodiscard]] std::string supported_gguf_architectures();

[[nodiscard]] Result<DecoderWeights> bind_llama(const ModelSpec& spec, const TensorTable& tensors,
                                                NameScheme scheme, const std::string& file);

}  // namespace mi::search
