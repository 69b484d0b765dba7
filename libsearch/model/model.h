// A decoder-only language model opened for calibration: its description, its tokenizer and its
// weights, mapped from disk and turned into f32 one layer at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/rope.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

struct ModelSpec {
  std::string name;          // directory or file stem, or the name the file gives itself
  std::string architecture;  // of a family: "llama", "qwen2", ...
  int layers = 0;            // that attend to all keys: what a search is about
  // Which of the decoder's those are, [layers] rising; empty: all.
  std::vector<int> attention_layers;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int hidden = 0;
  int ffn = 0;
  int vocab = 0;
  int64_t context = 0;  // positions the model was trained on
  Rope rope;
  double rms_eps = 0;
  bool qkv_bias = false;  // q, k and v have biases
  bool o_bias = false;
  double scale = 0;          // multiplies q.k; 0: 1/sqrt(head_dim)
  double softcap = 0;        // of scores; 0: none
  double logit_softcap = 0;  // of logits
  double embedding_scale = 1;
  bool gelu = false;  // the MLP's activation; else SiLU
  int experts = 0;    // MLPs that a token's router chooses from; 0: one MLP, for all tokens
  int experts_used = 0;
  bool norm_experts = false;  // the chosen ones' weights add up to 1
  // Of every layer of the decoder: keys that a token attends, the last ones up to itself; 0: all.
  // Empty: `layers` zeros.
  std::vector<int64_t> windows;
  Rope local_rope;          // of layers with a window
  int64_t most_tokens = 0;  // every layer has this window: prompts up to it run; 0: any prompt
  bool tied_embeddings = false;
  bool beside_others = false;  // a multimodal checkpoint's decoder
  std::string fingerprint;     // "sha256:..." over the description and a sample of every tensor

  [[nodiscard]] int decoder_layers() const {
    return windows.empty() ? layers : static_cast<int>(windows.size());
  }
};

// What one layer hands to attention, in the element type of the forward pass: float or bf16. q, k
// after rotary embedding.
template <class T>
struct BasicLayerQkv {
  // Among the layers that attend to all keys; those with a window are numbered after them.
  int layer = 0;
  int64_t window = 0;                   // 0: all keys
  TensorView<const T, 3> q;             // [heads, tokens, head_dim]
  TensorView<const T, 3> k;             // [kv_heads, tokens, head_dim]
  TensorView<const T, 3> v;             // [kv_heads, tokens, head_dim]
  TensorView<const float, 2> residual;  // [tokens, hidden] the stream that attention is added to
  TensorView<const float, 2> wo;        // [hidden, heads * head_dim] output projection
  // [heads] attention sinks, or none: scores of a key that every row sees, whose value is 0. Of
  // captures only, whose outputs nobody reads: scores count them, attention need not.
  std::span<const float> sinks;
};
using LayerQkv = BasicLayerQkv<float>;

// Computes attention for one layer into o [heads, tokens, head_dim].
template <class T>
using BasicAttentionFn = std::function<Status(const BasicLayerQkv<T>&, TensorView<T, 3> o)>;
using AttentionFn = BasicAttentionFn<float>;
// Called after every layer: (layers done, layers in all). May be empty.
using LayerProgressFn = std::function<void(int, int)>;

class Decoder;

class Model {
 public:
  // A GGUF file, or a Hugging Face directory (config.json, *.safetensors, tokenizer.json
  // or tokenizer.model).
  // Validates everything but the values of the weights before allocating anything large.
  [[nodiscard]] static Result<std::unique_ptr<Model>> open(const std::filesystem::path& path);
  virtual ~Model() = default;

  [[nodiscard]] virtual const ModelSpec& spec() const = 0;
  [[nodiscard]] virtual const Tokenizer* tokenizer() const = 0;  // null when the model has none
  // Why tokenizer() is null: none in the files, or one of an unsupported kind (named).
  [[nodiscard]] virtual Status tokenizer_status() const { return {}; }

  // One forward pass with one layer's weights and activations resident. Returns the final hidden
  // states after the last norm, [tokens, hidden]. The same bits for any number of threads.
  // ids[0] stands at `position`: what lies before it, `attention` remembers (search/decode.h).
  [[nodiscard]] virtual Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                         const AttentionFn& attention,
                                                         const LayerProgressFn& progress,
                                                         int64_t position = 0) const = 0;
  // The same in bf16: linear layers, q, k, v and o. The stream, norms, the rotary embedding and all
  // sums stay f32. Code::unsupported where this CPU cannot.
  [[nodiscard]] virtual Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                         const BasicAttentionFn<bf16>& attention,
                                                         const LayerProgressFn& progress,
                                                         int64_t position = 0) const = 0;
  // What runs the layers, for a pass that runs elsewhere; null where there is none (captures).
  [[nodiscard]] virtual const Decoder* decoder() const { return nullptr; }
  // logits [rows, vocab] of given rows of hidden states [rows, hidden].
  [[nodiscard]] virtual Status logits(TensorView<const float, 2> hidden,
                                      TensorView<float, 2> out) const = 0;
};

}  // namespace mi::search
