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
  angles_ = rope_angles(spec_.rope, first_position, tokens, spec_.context);
  if (spec_.layers < spec_.decoder_layers())
    local_angles_ = rope_angles(spec_.local_rope, first_position, tokens, spec_.context);
  int full = 0, local = spec_.layers;
  for (int layer = 0; layer < spec_.decoder_layers(); ++layer)
    numbers_.push_back(window(layer) > 0 ? local++ : full++);
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
  return search::embed(weights_, spec_, ids, threads_, stream_.view());
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
Status ForwardPass<T>::load(int layer) {
  const LayerWeights& weights = weights_.layers[count(layer)];
  MI_TRY(vectors_, load_vectors(weights_, layer, spec_));
  const RowOrder order = rotary_order(weights_, spec_);
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
void ForwardPass<T>::qkv_chunk(int64_t chunk, const RopeAngles& angles, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int64_t rows = chunk_rows(chunk, tokens_);
  const int dim = spec_.head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, vectors_.attention_norm.data(), spec_.rms_eps,
             spec_.hidden, scratch.norm.data() + r * spec_.hidden);
  }
  shapes_.qkv.apply(scratch.norm.data(), qkv_.data(), scratch.qkv.data(), nullptr,
                    scratch.onednn.data());
  const int turning = spec_.rope.dim;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scratch.qkv.data() + r * shapes_.qkv_width;
    add_row(vectors_.qkv_bias, row);
    const float* cosine = angles.cosine.data() + (first + r) * (turning / 2);
    const float* sine = angles.sine.data() + (first + r) * (turning / 2);
    for (int head = 0; head < spec_.heads; ++head, row += dim) {
      if (!vectors_.q_norm.empty()) rms_norm(row, vectors_.q_norm.data(), spec_.rms_eps, dim, row);
      rotate_half(row, cosine, sine, turning, dim, q_.view()[head][first + r].data);
    }
    for (int head = 0; head < spec_.kv_heads; ++head, row += dim) {
      if (!vectors_.k_norm.empty()) rms_norm(row, vectors_.k_norm.data(), spec_.rms_eps, dim, row);
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
  const RopeAngles& angles = window(layer) > 0 ? local_angles_ : angles_;
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
  for (int64_t r = 0; r < rows; ++r) add_row(vectors_.o_bias, delta + r * spec_.hidden);
  add_to_stream(first, rows, vectors_.post_attention_norm, delta);
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, vectors_.ffn_norm.data(), spec_.rms_eps, spec_.hidden,
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
    add_to_stream(chunk * kChunkRows, chunk_rows(chunk, tokens_), vectors_.post_ffn_norm,
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
  MI_TRY(const std::vector<float> norm, load_final_norm(weights_));
  return for_chunks([&](int64_t chunk, Scratch&) {
    for (int64_t r = 0; r < chunk_rows(chunk, tokens_); ++r) {
      float* row = stream_.view()[chunk * kChunkRows + r].data;
      rms_norm(row, norm.data(), spec_.rms_eps, spec_.hidden, row);
    }
  });
}

template class ForwardPass<float>;
template class ForwardPass<bf16>;

}  // namespace mi::search
