#include "libsearch/model/layer_load.h"

#include <algorithm>
#include <type_traits>

#include "libsearch/model/parallel.h"

namespace mi::search {
namespace {

constexpr int64_t kRowsPerTask = 64;

int64_t tasks_of(int64_t rows) {
  return (rows + kRowsPerTask - 1) / kRowsPerTask;
}

// Appends a vector, if the model has it, and `offset` to each of its values.
Status append(const WeightTensor* tensor, RowOrder order, float offset, std::vector<float>& out) {
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(tensor->columns()));
  MI_CHECK(convert_rows(*tensor, 0, 1, values.data()));
  const size_t begin = out.size();
  out.resize(begin + values.size());
  for (size_t i = 0; i < values.size(); ++i)
    out[begin + static_cast<size_t>(order.target(static_cast<int64_t>(i)))] = values[i] + offset;
  return {};
}

}  // namespace

template <class T>
Status convert(const WeightTensor& tensor, RowOrder order, int threads, T* out) {
  const int64_t rows = tensor.rows();
  const int64_t columns = tensor.columns();
  const auto convert_task = [&](int64_t task, int) -> Status {
    std::vector<float> wide(std::is_same_v<T, float> ? 0 : static_cast<size_t>(columns));
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      T* const to = out + order.target(row) * columns;
      if constexpr (std::is_same_v<T, float>) {
        MI_CHECK(convert_rows(tensor, row, 1, to));
      } else {
        MI_CHECK(convert_rows(tensor, row, 1, wide.data()));
        std::transform(wide.begin(), wide.end(), to, narrowed<T>);
      }
    }
    return {};
  };
  return parallel_for(tasks_of(rows), threads, convert_task);
}

template Status convert(const WeightTensor&, RowOrder, int, float*);
template Status convert(const WeightTensor&, RowOrder, int, bf16*);

Result<LayerVectors> load_vectors(const DecoderWeights& weights, int layer, const ModelSpec& spec) {
  const LayerWeights& of = weights.layers[static_cast<size_t>(layer)];
  const RowOrder order = rotary_order(weights, spec);
  LayerVectors loaded;
  struct Vector {
    const WeightTensor* tensor;
    RowOrder order;
    float offset;
    std::vector<float>* out;
  };
  const float one = weights.norm_offset;
  for (const Vector& vector : {Vector{of.attention_norm, {}, one, &loaded.attention_norm},
                               {of.ffn_norm, {}, one, &loaded.ffn_norm},
                               {of.post_attention_norm, {}, one, &loaded.post_attention_norm},
                               {of.post_ffn_norm, {}, one, &loaded.post_ffn_norm},
                               {of.q_bias, order, 0, &loaded.qkv_bias},
                               {of.k_bias, order, 0, &loaded.qkv_bias},
                               {of.v_bias, {}, 0, &loaded.qkv_bias},
                               {of.o_bias, {}, 0, &loaded.o_bias},
                               {of.q_norm, order, one, &loaded.q_norm},
                               {of.k_norm, order, one, &loaded.k_norm}})
    MI_CHECK(append(vector.tensor, vector.order, vector.offset, *vector.out));
  return loaded;
}

Result<std::vector<float>> load_final_norm(const DecoderWeights& weights) {
  std::vector<float> norm;
  MI_CHECK(append(weights.final_norm, {}, weights.norm_offset, norm));
  return norm;
}

Status embed(const DecoderWeights& weights, const ModelSpec& spec, std::span<const int32_t> ids,
             int threads, TensorView<float, 2> stream) {
  const auto tokens = static_cast<int64_t>(ids.size());
  return parallel_for(tasks_of(tokens), threads, [&](int64_t task, int) -> Status {
    const int64_t end = std::min(tokens, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      float* to = stream[row].data;
      MI_CHECK(convert_rows(*weights.embedding, ids[static_cast<size_t>(row)], 1, to));
      if (const auto scale = static_cast<float>(spec.embedding_scale); scale != 1)
        for (int i = 0; i < spec.hidden; ++i) to[i] *= scale;
    }
    return Status{};
  });
}

}  // namespace mi::search
