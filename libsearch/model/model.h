// A decoder-only language model opened for calibration: its description, its tokenizer and its
// weights, mapped from disk and turned into f32 one layer at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/half.h"
#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/rope.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

struct ModelSpec {
  std::string name;          // directory or file stem, or the name the file gives itself
  std::string architecture;  // of a family: "llama", "qwen2", ...
  int layers = 0;
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
  int64_t window = 0;  // some layers see so many keys only; 0: all see all. Prompts up to it run
  bool tied_embeddings = false;
  std::string fingerprint;  // "sha256:..." over the description and a sample of every tensor
};

// What one layer hands to attention, in the element type of the forward pass: float or bf16. q, k
// after rotary embedding.
template <class T>
struct BasicLayerQkv {
  int layer = 0;
  TensorView<const T, 3> q;             // [heads, tokens, head_dim]
  TensorView<const T, 3> k;             // [kv_heads, tokens, head_dim]
  TensorView<const T, 3> v;             // [kv_heads, tokens, head_dim]
  TensorView<const float, 2> residual;  // [tokens, hidden] the stream that attention is added to
  TensorView<const float, 2> wo;        // [hidden, heads * head_dim] output projection
};
using LayerQkv = BasicLayerQkv<float>;

// Computes attention for one layer into o [heads, tokens, head_dim].
template <class T>
using BasicAttentionFn = std::function<Status(const BasicLayerQkv<T>&, TensorView<T, 3> o)>;
using AttentionFn = BasicAttentionFn<float>;
// Called after every layer: (layers done, layers in all). May be empty.
using LayerProgressFn = std::function<void(int, int)>;

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
  // logits [rows, vocab] of given rows of hidden states [rows, hidden].
  [[nodiscard]] virtual Status logits(TensorView<const float, 2> hidden,
                                      TensorView<float, 2> out) const = 0;
};

}  // namespace mi::search
