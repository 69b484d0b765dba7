// A layer's weights out of their files, as every forward pass wants them: rotary pairs in halves,
// norms with their offset, biases of q, k and v behind each other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/half.h"
#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/families/family.h"

namespace mi::search {

// How rows of q and k are stored: a head's rotary pairs side by side, or not.
struct RowOrder {
  int64_t head_dim = 0;  // 0: rows stay where they are
  int64_t turning = 0;
  // Row 2i + p of a head's first `turning` goes to row i + p * turning/2.
  [[nodiscard]] int64_t target(int64_t row) const {
    const int64_t within = head_dim == 0 ? 0 : row % head_dim;
    return within >= turning ? row : row - within + within / 2 + within % 2 * (turning / 2);
  }
};
[[nodiscard]] inline RowOrder rotary_order(const DecoderWeights& weights, const ModelSpec& spec) {
  return weights.interleaved_rotary ? RowOrder{spec.head_dim, spec.rope.dim} : RowOrder{};
}

// A whole tensor, in parallel, to out [rows, columns]. T is float or bf16. Errors: convert_rows'.
template <class T>
[[nodiscard]] Status convert(const WeightTensor& tensor, RowOrder order, int threads, T* out);

// Vectors of a layer; empty where the model has none.
struct LayerVectors {
  std::vector<float> attention_norm, ffn_norm, post_attention_norm, post_ffn_norm;  // [hidden]
  std::vector<float> qkv_bias;        // [(heads + 2 kv_heads) * head_dim]
  std::vector<float> o_bias;          // [hidden]
  std::vector<float> q_norm, k_norm;  // [head_dim]
};
[[nodiscard]] Result<LayerVectors> load_vectors(const DecoderWeights& weights, int layer,
                                                const ModelSpec& spec);
[[nodiscard]] Result<std::vector<float>> load_final_norm(const DecoderWeights& weights);

// The stream as the first layer reads it, [tokens, hidden].
[[nodiscard]] Status embed(const DecoderWeights& weights, const ModelSpec& spec,
                           std::span<const int32_t> ids, int threads, TensorView<float, 2> stream);

}  // namespace mi::search
