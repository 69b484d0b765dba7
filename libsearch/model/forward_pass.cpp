#include "libsearch/model/forward_pass.h"

#include <cmath>

#include <omp.h>

#include "libsearch/model/parallel.h"
#include "libsearch/model/row_ops.h"

namespace mi::search {
namespace {

size_t count(int64_t a, int64_t b = 1) {
  return static_cast<size_t>(a) * static_cast<size_t>(b);
}

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

// Converts a whole tensor in parallel.
Status convert(const WeightTensor& tensor, RowOrder order, int threads, float* out) {
  constexpr int64_t kRowsPerTask = 64;
  const int64_t rows = tensor.rows();
  const int64_t columns = tensor.columns();
  const auto convert_task = [&](int64_t task, int) -> Status {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row)
      MI_CHECK(convert_rows(tensor, row, 1, out + order.target(row) * columns));
    return {};
  };
  return parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, threads, convert_task);
}

// Appends a vector, if the model has it, and `offset` to each of its values.
Status append(const WeightTensor* tensor, RowOrder order, float offset, std::vector<float>& out) {
  if (tensor == nullptr) return {};
  std::vector<float> values(count(tensor->columns()));
  MI_CHECK(convert_rows(*tensor, 0, 1, values.data()));
  const size_t begin = out.size();
  out.resize(begin + values.size());
  for (size_t i = 0; i < values.size(); ++i)
    out[begin + count(order.target(static_cast<int64_t>(i)))] = values[i] + offset;
  return {};
}

void add_row(const std::vector<float>& bias, float* row) {
  for (size_t i = 0; i < bias.size(); ++i) row[i] += bias[i];
}

}  // namespace

template <class T>
ForwardPass<T>::ForwardPass(const ModelSpec& spec, const DecoderWeights& weights,
                            const DecoderShapes<T>& shapes, int64_t tokens, int64_t first_position)
    : spec_(spec),
      weights_(weights),
      shapes_(shapes),
      tokens_(tokens),
      threads_(omp_get_max_threads()),
      stream_({tokens, spec_.hidden}),
      q_({spec_.heads, tokens, spec_.head_dim}),
      k_({spec_.kv_heads, tokens, spec_.head_dim}),
      v_({spec_.kv_heads, tokens, spec_.head_dim}),
      o_({spec_.heads, tokens, spec_.head_dim}),
      plain_(count(spec_.hidden, std::max(shapes_.qkv_width, spec_.ffn))),
      plain_o_(count(spec_.hidden, shapes_.q_width)),
      qkv_(shapes_.qkv.packed_bytes()),
      out_(shapes_.o.packed_bytes()),
      gate_(shapes_.gate.packed_bytes()),
      up_(shapes_.up.packed_bytes()),
      down_(shapes_.down.packed_bytes()),
      router_(shapes_.router.packed_bytes()),
      scratch_(count(threads_)) {
  const size_t onednn = std::max({shapes_.qkv.scratch_bytes(), shapes_.o.scratch_bytes(),
                                  shapes_.gate.scratch_bytes(), shapes_.up.scratch_bytes(),
                                  shapes_.down.scratch_bytes(), shapes_.router.scratch_bytes()});
  for (Scratch& scratch : scratch_) {
    scratch.norm.resize(count(kChunkRows, spec_.hidden));
    scratch.heads.resize(count(kChunkRows, shapes_.q_width));
    scratch.gate.resize(count(kChunkRows, spec_.ffn));
    scratch.up.resize(count(kChunkRows, spec_.ffn));
    scratch.qkv.resize(count(kChunkRows, shapes_.qkv_width));
    scratch.delta.resize(count(kChunkRows, spec_.hidden));
    scratch.route.resize(count(kChunkRows, spec_.experts));
    scratch.onednn.resize(onednn);
  }
  if (spec_.experts > 0) {
    norms_ = Tensor<T, 2>({tokens, spec_.hidden});
    choices_.resize(count(tokens, spec_.experts_used));
  }
  angles_ = angles_of(spec_.rope, first_position);
  if (spec_.layers < spec_.decoder_layers())
    local_angles_ = angles_of(spec_.local_rope, first_position);
  int full = 0, local = spec_.layers;
  for (int layer = 0; layer < spec_.decoder_layers(); ++layer)
    numbers_.push_back(window(layer) > 0 ? local++ : full++);
}

template <class T>
typename ForwardPass<T>::Angles ForwardPass<T>::angles_of(const Rope& rope,
                                                          int64_t first_position) const {
  // Angles in double: f32 angles are off by 5e-4 at position 8000.
  const auto frequencies = rope_frequencies(rope, first_position + tokens_, spec_.context);
  const size_t half = frequencies.size();
  Angles angles;
  angles.cosine.resize(count(tokens_) * half);
  angles.sine.resize(angles.cosine.size());
  for (size_t i = 0; i < half; ++i) {
    for (int64_t row = 0; row < tokens_; ++row) {
      const double angle = static_cast<double>(first_position + row) * frequencies[i];
      const double length = rope.attention_factor;
      angles.cosine[count(row) * half + i] = static_cast<float>(length * std::cos(angle));
      angles.sine[count(row) * half + i] = static_cast<float>(length * std::sin(angle));
    }
  }
  return angles;
}

template <class T>
template <class Body>
Status ForwardPass<T>::for_chunks(const Body& body) {
  return parallel_for(chunk_count(tokens_), threads_, [&](int64_t chunk, int thread) {
    body(chunk, scratch_[count(thread)]);
    return Status{};
  });
}

template <class T>
Status ForwardPass<T>::embed(std::span<const int32_t> ids) {
  const WeightTensor& table = *weights_.embedding;
  return parallel_for(chunk_count(tokens_), threads_, [&](int64_t chunk, int) -> Status {
    const int64_t first = chunk * kChunkRows;
    for (int64_t row = first; row < first + chunk_rows(chunk, tokens_); ++row) {
      float* to = stream_.view()[row].data;
      MI_CHECK(convert_rows(table, ids[count(row)], 1, to));
      if (const auto scale = static_cast<float>(spec_.embedding_scale); scale != 1)
        for (int i = 0; i < spec_.hidden; ++i) to[i] *= scale;
    }
    return Status{};
  });
}

template <class T>
template <class Out>
Status ForwardPass<T>::pack(const WeightTensor& tensor, const Linear<T, Out>& linear,
                            AlignedBuffer<std::byte>& packed) {
  MI_CHECK(convert(tensor, {}, threads_, plain_.data()));
  linear.pack(plain_.data(), packed.data());
  return {};
}

template <class T>
Status ForwardPass<T>::load_vectors(const LayerWeights& weights) {
  const RowOrder order =
      weights_.interleaved_rotary ? RowOrder{spec_.head_dim, spec_.rope.dim} : RowOrder{};
  struct Vector {
    const WeightTensor* tensor;
    RowOrder order;
    float offset;
    std::vector<float>* out;
  };
  const float one = weights_.norm_offset;
  const Vector vectors[] = {{weights.attention_norm, {}, one, &attention_norm_},
                            {weights.ffn_norm, {}, one, &ffn_norm_},
                            {weights.post_attention_norm, {}, one, &post_attention_norm_},
                            {weights.post_ffn_norm, {}, one, &post_ffn_norm_},
                            {weights.q_bias, order, 0, &qkv_bias_},
                            {weights.k_bias, order, 0, &qkv_bias_},
                            {weights.v_bias, {}, 0, &qkv_bias_},
                            {weights.o_bias, {}, 0, &o_bias_},
                            {weights.q_norm, order, one, &q_norm_},
                            {weights.k_norm, order, one, &k_norm_}};
  for (const Vector& vector : vectors) vector.out->clear();
  for (const Vector& vector : vectors)
    MI_CHECK(append(vector.tensor, vector.order, vector.offset, *vector.out));
  return {};
}

template <class T>
Status ForwardPass<T>::load(int layer) {
  const LayerWeights& weights = weights_.layers[count(layer)];
  MI_CHECK(load_vectors(weights));
  const RowOrder order =
      weights_.interleaved_rotary ? RowOrder{spec_.head_dim, spec_.rope.dim} : RowOrder{};
  float* k = plain_.data() + count(spec_.hidden, shapes_.q_width);
  float* v = k + count(spec_.hidden, shapes_.kv_width);
  MI_CHECK(convert(*weights.q, order, threads_, plain_.data()));
  MI_CHECK(convert(*weights.k, order, threads_, k));
  MI_CHECK(convert(*weights.v, {}, threads_, v));
  shapes_.qkv.pack(plain_.data(), qkv_.data());
  MI_CHECK(convert(*weights.o, {}, threads_, plain_o_.data()));
  shapes_.o.pack(plain_o_.data(), out_.data());
  if (weights.router != nullptr) return pack(*weights.router, shapes_.router, router_);
  return load_mlp(weights.mlps.front());
}

template <class T>
Status ForwardPass<T>::load_mlp(const MlpWeights& weights) {
  MI_CHECK(pack(*weights.gate, shapes_.gate, gate_));
  MI_CHECK(pack(*weights.up, shapes_.up, up_));
  return pack(*weights.down, shapes_.down, down_);
}

template <class T>
void ForwardPass<T>::qkv_chunk(int64_t chunk, const Angles& angles, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int64_t rows = chunk_rows(chunk, tokens_);
  const int dim = spec_.head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, attention_norm_.data(), spec_.rms_eps, spec_.hidden,
             scratch.norm.data() + r * spec_.hidden);
  }
  shapes_.qkv.apply(scratch.norm.data(), qkv_.data(), scratch.qkv.data(), nullptr,
                    scratch.onednn.data());
  const int turning = spec_.rope.dim;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scratch.qkv.data() + r * shapes_.qkv_width;
    add_row(qkv_bias_, row);
    const float* cosine = angles.cosine.data() + (first + r) * (turning / 2);
    const float* sine = angles.sine.data() + (first + r) * (turning / 2);
    for (int head = 0; head < spec_.heads; ++head, row += dim) {
      if (!q_norm_.empty()) rms_norm(row, q_norm_.data(), spec_.rms_eps, dim, row);
      rotate_half(row, cosine, sine, turning, dim, q_.view()[head][first + r].data);
    }
    for (int head = 0; head < spec_.kv_heads; ++head, row += dim) {
      if (!k_norm_.empty()) rms_norm(row, k_norm_.data(), spec_.rms_eps, dim, row);
      rotate_half(row, cosine, sine, turning, dim, k_.view()[head][first + r].data);
    }
    for (int head = 0; head < spec_.kv_heads; ++head, row += dim) {
      T* v = v_.view()[head][first + r].data;
      for (int i = 0; i < dim; ++i) store(row[i], v[i]);
    }
  }
}

template <class T>
Status ForwardPass<T>::project_qkv(int layer) {
  const Angles& angles = window(layer) > 0 ? local_angles_ : angles_;
  return for_chunks([&](int64_t chunk, Scratch& scratch) { qkv_chunk(chunk, angles, scratch); });
}

template <class T>
Status ForwardPass<T>::attend(int layer, const BasicAttentionFn<T>& attention) {
  BasicLayerQkv<T> qkv;
  qkv.layer = numbers_[count(layer)];
  qkv.window = window(layer);
  qkv.q = q_.view();
  qkv.k = k_.view();
  qkv.v = v_.view();
  qkv.residual = stream_.view();
  qkv.wo = {plain_o_.data(), {spec_.hidden, shapes_.q_width}};
  return attention(qkv, o_.view());
}

template <class T>
void ForwardPass<T>::add_to_stream(int64_t first, int64_t rows, const std::vector<float>& norm,
                                   float* delta) {
  if (!norm.empty())
    for (int64_t r = 0; r < rows; ++r) {
      float* row = delta + r * spec_.hidden;
      rms_norm(row, norm.data(), spec_.rms_eps, spec_.hidden, row);
    }
  float* stream = stream_.view()[first].data;
  for (int64_t i = 0; i < rows * spec_.hidden; ++i) stream[i] += delta[i];
}

// The output projection, and the norm that the MLP reads, to scratch.norm.
template <class T>
void ForwardPass<T>::out_chunk(int64_t chunk, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int64_t rows = chunk_rows(chunk, tokens_);
  const int dim = spec_.head_dim;
  float* delta = scratch.delta.data();
  for (int64_t r = 0; r < rows; ++r) {
    T* row = scratch.heads.data() + r * shapes_.q_width;
    for (int head = 0; head < spec_.heads; ++head, row += dim) {
      std::copy_n(o_.view()[head][first + r].data, dim, row);
    }
  }
  shapes_.o.apply(scratch.heads.data(), out_.data(), delta, nullptr, scratch.onednn.data());
  for (int64_t r = 0; r < rows; ++r) add_row(o_bias_, delta + r * spec_.hidden);
  add_to_stream(first, rows, post_attention_norm_, delta);
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, ffn_norm_.data(), spec_.rms_eps, spec_.hidden,
             scratch.norm.data() + r * spec_.hidden);
  }
}

template <class T>
void ForwardPass<T>::mlp(Scratch& scratch) {
  shapes_.gate.apply(scratch.norm.data(), gate_.data(), scratch.gate.data(), nullptr,
                     scratch.onednn.data());
  shapes_.up.apply(scratch.norm.data(), up_.data(), scratch.up.data(), scratch.gate.data(),
                   scratch.onednn.data());
  shapes_.down.apply(scratch.up.data(), down_.data(), scratch.delta.data(), nullptr,
                     scratch.onednn.data());
}

template <class T>
Status ForwardPass<T>::project_and_mlp(int layer) {
  const LayerWeights& weights = weights_.layers[count(layer)];
  if (weights.router != nullptr) {
    MI_CHECK(for_chunks([&](int64_t chunk, Scratch& scratch) {
      out_chunk(chunk, scratch);
      route_chunk(chunk, scratch);
    }));
    return run_experts(weights);
  }
  return for_chunks([&](int64_t chunk, Scratch& scratch) {
    out_chunk(chunk, scratch);
    mlp(scratch);
    add_to_stream(chunk * kChunkRows, chunk_rows(chunk, tokens_), post_ffn_norm_,
                  scratch.delta.data());
  });
}

// Softmax over all experts; the largest experts_used of them are the token's.
template <class T>
void ForwardPass<T>::route_chunk(int64_t chunk, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int experts = spec_.experts;
  shapes_.router.apply(scratch.norm.data(), router_.data(), scratch.route.data(), nullptr,
                       scratch.onednn.data());
  std::vector<Choice> all(count(experts));
  for (int64_t r = 0; r < chunk_rows(chunk, tokens_); ++r) {
    std::copy_n(scratch.norm.data() + r * spec_.hidden, spec_.hidden,
                norms_.view()[first + r].data);
    const float* row = scratch.route.data() + r * experts;
    const float most = *std::max_element(row, row + experts);
    double sum = 0;
    for (int e = 0; e < experts; ++e) {
      all[count(e)] = {e, std::exp(row[e] - most)};
      sum += static_cast<double>(all[count(e)].weight);
    }
    const auto chosen_end = all.begin() + spec_.experts_used;
    std::partial_sort(all.begin(), chosen_end, all.end(), [](const Choice& a, const Choice& b) {
      return a.weight > b.weight || (a.weight == b.weight && a.expert < b.expert);
    });
    if (spec_.norm_experts) {
      sum = 0;
      for (auto c = all.begin(); c != chosen_end; ++c) sum += static_cast<double>(c->weight);
    }
    for (auto c = all.begin(); c != chosen_end; ++c) c->weight /= static_cast<float>(sum);
    std::copy(all.begin(), chosen_end, choices_.begin() + (first + r) * spec_.experts_used);
  }
}

// One expert's weights at a time, over the tokens that chose it.
template <class T>
Status ForwardPass<T>::run_experts(const LayerWeights& weights) {
  struct Row {
    int64_t token;
    float weight;
  };
  std::vector<std::vector<Row>> rows_of(count(spec_.experts));
  for (size_t i = 0; i < choices_.size(); ++i)
    rows_of[count(choices_[i].expert)].push_back(
        {static_cast<int64_t>(i) / spec_.experts_used, choices_[i].weight});
  for (size_t e = 0; e < rows_of.size(); ++e) {
    const std::vector<Row>& rows = rows_of[e];
    if (rows.empty()) continue;
    MI_CHECK(load_mlp(weights.mlps[e]));
    const auto total = static_cast<int64_t>(rows.size());
    MI_CHECK(parallel_for(chunk_count(total), threads_, [&](int64_t chunk, int thread) {
      Scratch& scratch = scratch_[count(thread)];
      const Row* row = rows.data() + chunk * kChunkRows;
      const int64_t n = chunk_rows(chunk, total);
      for (int64_t r = 0; r < n; ++r)
        std::copy_n(norms_.view()[row[r].token].data, spec_.hidden,
                    scratch.norm.data() + r * spec_.hidden);
      mlp(scratch);
      for (int64_t r = 0; r < n; ++r) {
        const float* delta = scratch.delta.data() + r * spec_.hidden;
        float* stream = stream_.view()[row[r].token].data;
        for (int i = 0; i < spec_.hidden; ++i) stream[i] += row[r].weight * delta[i];
      }
      return Status{};
    }));
  }
  return {};
}

template <class T>
Status ForwardPass<T>::final_norm() {
  ffn_norm_.clear();
  MI_CHECK(append(weights_.final_norm, {}, weights_.norm_offset, ffn_norm_));
  return for_chunks([&](int64_t chunk, Scratch&) {
    for (int64_t r = 0; r < chunk_rows(chunk, tokens_); ++r) {
      float* row = stream_.view()[chunk * kChunkRows + r].data;
      rms_norm(row, ffn_norm_.data(), spec_.rms_eps, spec_.hidden, row);
    }
  });
}

template class ForwardPass<float>;
template class ForwardPass<bf16>;

}  // namespace mi::search
