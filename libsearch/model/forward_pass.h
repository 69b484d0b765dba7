// The state of one forward pass: residual stream, one layer's q, k, v and weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/families/family.h"
#include "libsearch/model/layer_load.h"
#include "libsearch/model/linear.h"
#include "libsearch/model/model.h"

namespace mi::search {

[[nodiscard]] inline int64_t chunk_count(int64_t rows) {
  return (rows + kChunkRows - 1) / kChunkRows;
}
[[nodiscard]] inline int64_t chunk_rows(int64_t chunk, int64_t rows) {
  return std::min<int64_t>(kChunkRows, rows - chunk * kChunkRows);
}

// One primitive per shape, made once. T is the type of weights and of what they multiply.
template <class T>
struct DecoderShapes {
  explicit DecoderShapes(const ModelSpec& spec)
      : q_width(spec.heads * spec.head_dim),
        kv_width(spec.kv_heads * spec.head_dim),
        qkv_width(q_width + 2 * kv_width),
        qkv(spec.hidden, qkv_width, Epilogue::none),
        o(q_width, spec.hidden, Epilogue::none),
        gate(spec.hidden, spec.ffn, spec.gelu ? Epilogue::gelu : Epilogue::silu),
        up(spec.hidden, spec.ffn, Epilogue::multiply),
        down(spec.ffn, spec.hidden, Epilogue::none),
        router(spec.hidden, std::max(1, spec.experts), Epilogue::none) {}

  int q_width, kv_width, qkv_width;
  Linear<T, float> qkv, o;
  Linear<T, T> gate, up;  // what only the next product reads
  Linear<T, float> down, router;
};

// The buffers of one forward pass, reused by every layer.
template <class T>
class ForwardPass {
 public:
  ForwardPass(const ModelSpec& spec, const DecoderWeights& weights, const DecoderShapes<T>& shapes,
              int64_t tokens, int64_t first_position);

  [[nodiscard]] Status embed(std::span<const int32_t> ids);
  [[nodiscard]] Status load(int layer);
  [[nodiscard]] Status project_qkv(int layer);
  [[nodiscard]] Status attend(int layer, const BasicAttentionFn<T>& attention);
  [[nodiscard]] Status project_and_mlp(int layer);
  [[nodiscard]] Status final_norm();
  [[nodiscard]] Tensor<float, 2> take_stream() { return std::move(stream_); }

 private:
  struct Scratch {
    AlignedBuffer<T> norm;       // [kChunkRows, hidden]
    AlignedBuffer<T> heads;      // [kChunkRows, q_width]
    AlignedBuffer<T> gate, up;   // [kChunkRows, ffn]
    AlignedBuffer<float> qkv;    // [kChunkRows, qkv_width]
    AlignedBuffer<float> delta;  // [kChunkRows, hidden]
    AlignedBuffer<float> route;  // [kChunkRows, experts]
    AlignedBuffer<std::byte> onednn;
  };
  [[nodiscard]] int64_t window(int layer) const {
    return spec_.windows.empty() ? 0 : spec_.windows[static_cast<size_t>(layer)];
  }
  // One of a token's experts, and how much it counts.
  struct Choice {
    int expert = 0;
    float weight = 0;
  };
  void qkv_chunk(int64_t chunk, const RopeAngles& angles, Scratch& scratch);
  void out_chunk(int64_t chunk, Scratch& scratch);
  void mlp(Scratch& scratch);  // of scratch.norm, to scratch.delta
  void route_chunk(int64_t chunk, Scratch& scratch);
  [[nodiscard]] Status load_mlp(const MlpWeights& weights);
  [[nodiscard]] Status run_experts(const LayerWeights& weights);
  void add_to_stream(int64_t first, int64_t rows, const std::vector<float>& norm, float* delta);
  template <class Out>
  [[nodiscard]] Status pack(const WeightTensor& tensor, const Linear<T, Out>& linear,
                            AlignedBuffer<std::byte>& packed);
  template <class Body>
  [[nodiscard]] Status for_chunks(const Body& body);

  const ModelSpec& spec_;
  const DecoderWeights& weights_;
  const DecoderShapes<T>& shapes_;
  int64_t tokens_;
  int threads_;
  Tensor<float, 2> stream_;           // [tokens, hidden]
  Tensor<T, 3> q_, k_, v_, o_;        // [heads or kv_heads, tokens, head_dim]
  RopeAngles angles_, local_angles_;  // the second of layers with a window
  std::vector<int> numbers_;          // [decoder layers] what attention calls them
  AlignedBuffer<float> plain_;        // a weight before packing
  AlignedBuffer<float> plain_o_;      // [hidden, heads * head_dim], shown to attention
  LayerVectors vectors_;
  AlignedBuffer<std::byte> qkv_, out_, gate_, up_, down_, router_;  // packed
  std::vector<Scratch> scratch_;                                    // one per thread
  Tensor<T, 2> norms_;           // [tokens, hidden] what experts read; empty without them
  std::vector<Choice> choices_;  // [tokens, experts_used]
};

}  // namespace mi::search
