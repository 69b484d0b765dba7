#include "libsearch/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <omp.h>

#include "libsearch/model/linear.h"
#include "libsearch/model/parallel.h"
#include "libsearch/model/row_ops.h"

namespace mi::search {
namespace {

// Vocabulary rows of the output matrix that are converted and packed at a time. 512 rows of 576
// are 1.2 MB, and their packing is 1/128 of the arithmetic of one full chunk.
constexpr int kHeadRows = 512;

int64_t chunks(int64_t rows) {
  return (rows + kChunkRows - 1) / kChunkRows;
}
int64_t rows_of(int64_t chunk, int64_t rows) {
  return std::min<int64_t>(kChunkRows, rows - chunk * kChunkRows);
}
size_t count(int64_t a, int64_t b = 1) {
  return static_cast<size_t>(a) * static_cast<size_t>(b);
}

// Converts a whole tensor in parallel. Rows of q and k that are stored for interleaved rotary
// pairs, row 2i + p of a head, go to row i + p * head_dim/2.
Status convert(const WeightTensor& tensor, int interleaved_head_dim, int threads, float* out) {
  constexpr int64_t kRowsPerTask = 64;
  const int64_t rows = tensor.rows();
  const int64_t columns = tensor.columns();
  return parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, threads,
                      [&](int64_t task, int) -> Status {
                        const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
                        for (int64_t row = task * kRowsPerTask; row < end; ++row) {
                          int64_t target = row;
                          if (const int64_t dim = interleaved_head_dim; dim != 0) {
                            const int64_t within = row % dim;
                            target = row - within + within / 2 + within % 2 * (dim / 2);
                          }
                          MI_CHECK(convert_rows(tensor, row, 1, out + target * columns));
                        }
                        return Status{};
                      });
}

}  // namespace

// One primitive per shape, made once.
struct Decoder::Shapes {
  Shapes(const ModelSpec& spec)
      : q_width(spec.heads * spec.head_dim),
        kv_width(spec.kv_heads * spec.head_dim),
        qkv_width(q_width + 2 * kv_width),
        qkv(spec.hidden, qkv_width, Epilogue::none),
        o(q_width, spec.hidden, Epilogue::none),
        gate(spec.hidden, spec.ffn, Epilogue::silu),
        up(spec.hidden, spec.ffn, Epilogue::multiply),
        down(spec.ffn, spec.hidden, Epilogue::none),
        head(spec.hidden, kHeadRows, Epilogue::none) {}
  int q_width, kv_width, qkv_width;
  Linear qkv, o, gate, up, down, head;
};

// The buffers of one forward pass, reused by every layer.
class Decoder::Pass {
 public:
  Pass(const Decoder& decoder, int64_t tokens);

  [[nodiscard]] Status embed(std::span<const int32_t> ids);
  [[nodiscard]] Status load(int layer);
  [[nodiscard]] Status project_qkv();
  [[nodiscard]] Status attend(int layer, const AttentionFn& attention);
  [[nodiscard]] Status project_and_mlp();
  [[nodiscard]] Status final_norm();
  [[nodiscard]] Tensor<float, 2> take_stream() { return std::move(stream_); }

 private:
  struct Scratch {
    AlignedBuffer<float> norm;   // [kChunkRows, hidden]
    AlignedBuffer<float> wide;   // [kChunkRows, qkv_width, q_width or ffn]
    AlignedBuffer<float> wide2;  // [kChunkRows, ffn]
    AlignedBuffer<float> onednn;
  };
  void qkv_chunk(int64_t chunk, Scratch& scratch);
  void mlp_chunk(int64_t chunk, Scratch& scratch);
  void add_to_stream(int64_t first, int64_t rows, const float* delta);
  [[nodiscard]] Status pack(const WeightTensor& tensor, const Linear& linear,
                            AlignedBuffer<float>& packed);
  template <class Body>
  [[nodiscard]] Status for_chunks(const Body& body);

  const ModelSpec& spec_;
  const Decoder& decoder_;
  const Shapes& shapes_;
  int64_t tokens_;
  int threads_ = omp_get_max_threads();
  Tensor<float, 2> stream_;           // [tokens, hidden]
  Tensor<float, 3> q_, k_, v_, o_;    // [heads or kv_heads, tokens, head_dim]
  std::vector<float> cosine_, sine_;  // [tokens, head_dim / 2]
  AlignedBuffer<float> plain_;        // a weight before packing
  AlignedBuffer<float> plain_o_;      // [hidden, heads * head_dim], shown to attention
  AlignedBuffer<float> attention_norm_, ffn_norm_;
  AlignedBuffer<float> qkv_, out_, gate_, up_, down_;  // packed
  std::vector<Scratch> scratch_;                       // one per thread
};

Decoder::Pass::Pass(const Decoder& decoder, int64_t tokens)
    : spec_(decoder.spec_),
      decoder_(decoder),
      shapes_(*decoder.shapes_),
      tokens_(tokens),
      stream_({tokens, spec_.hidden}),
      q_({spec_.heads, tokens, spec_.head_dim}),
      k_({spec_.kv_heads, tokens, spec_.head_dim}),
      v_({spec_.kv_heads, tokens, spec_.head_dim}),
      o_({spec_.heads, tokens, spec_.head_dim}),
      cosine_(count(tokens, spec_.head_dim / 2)),
      sine_(cosine_.size()),
      plain_(count(spec_.hidden, std::max(shapes_.qkv_width, spec_.ffn))),
      plain_o_(count(spec_.hidden, shapes_.q_width)),
      attention_norm_(count(spec_.hidden)),
      ffn_norm_(count(spec_.hidden)),
      qkv_(shapes_.qkv.packed_floats()),
      out_(shapes_.o.packed_floats()),
      gate_(shapes_.gate.packed_floats()),
      up_(shapes_.up.packed_floats()),
      down_(shapes_.down.packed_floats()),
      scratch_(count(threads_)) {
  const size_t onednn = std::max({shapes_.qkv.scratch_floats(), shapes_.o.scratch_floats(),
                                  shapes_.gate.scratch_floats(), shapes_.up.scratch_floats(),
                                  shapes_.down.scratch_floats()});
  for (Scratch& scratch : scratch_) {
    scratch.norm.resize(count(kChunkRows, spec_.hidden));
    scratch.wide.resize(count(kChunkRows, std::max(shapes_.qkv_width, spec_.ffn)));
    scratch.wide2.resize(count(kChunkRows, spec_.ffn));
    scratch.onednn.resize(onednn);
  }
  // Angles in double: f32 angles are off by 5e-4 at position 8000.
  const int half = spec_.head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const double frequency = std::pow(spec_.rope_theta, -2.0 * i / spec_.head_dim);
    for (int64_t position = 0; position < tokens; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cosine_[count(position, half) + count(i)] = static_cast<float>(std::cos(angle));
      sine_[count(position, half) + count(i)] = static_cast<float>(std::sin(angle));
    }
  }
}

template <class Body>
Status Decoder::Pass::for_chunks(const Body& body) {
  return parallel_for(chunks(tokens_), threads_, [&](int64_t chunk, int thread) {
    body(chunk, scratch_[count(thread)]);
    return Status{};
  });
}

Status Decoder::Pass::embed(std::span<const int32_t> ids) {
  const WeightTensor& table = *decoder_.weights_.embedding;
  return parallel_for(chunks(tokens_), threads_, [&](int64_t chunk, int) -> Status {
    const int64_t first = chunk * kChunkRows;
    for (int64_t row = first; row < first + rows_of(chunk, tokens_); ++row) {
      MI_CHECK(convert_rows(table, ids[count(row)], 1, stream_.view()[row].data));
    }
    return Status{};
  });
}

Status Decoder::Pass::pack(const WeightTensor& tensor, const Linear& linear,
                           AlignedBuffer<float>& packed) {
  MI_CHECK(convert(tensor, 0, threads_, plain_.data()));
  linear.pack(plain_.data(), packed.data());
  return {};
}

Status Decoder::Pass::load(int layer) {
  const LayerWeights& weights = decoder_.weights_.layers[count(layer)];
  const int interleaved = decoder_.weights_.interleaved_rotary ? spec_.head_dim : 0;
  MI_CHECK(convert(*weights.attention_norm, 0, threads_, attention_norm_.data()));
  MI_CHECK(convert(*weights.ffn_norm, 0, threads_, ffn_norm_.data()));
  float* k = plain_.data() + count(spec_.hidden, shapes_.q_width);
  float* v = k + count(spec_.hidden, shapes_.kv_width);
  MI_CHECK(convert(*weights.q, interleaved, threads_, plain_.data()));
  MI_CHECK(convert(*weights.k, interleaved, threads_, k));
  MI_CHECK(convert(*weights.v, 0, threads_, v));
  shapes_.qkv.pack(plain_.data(), qkv_.data());
  MI_CHECK(convert(*weights.o, 0, threads_, plain_o_.data()));
  shapes_.o.pack(plain_o_.data(), out_.data());
  MI_CHECK(pack(*weights.gate, shapes_.gate, gate_));
  MI_CHECK(pack(*weights.up, shapes_.up, up_));
  return pack(*weights.down, shapes_.down, down_);
}

void Decoder::Pass::qkv_chunk(int64_t chunk, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int64_t rows = rows_of(chunk, tokens_);
  const int dim = spec_.head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, attention_norm_.data(), spec_.rms_eps, spec_.hidden,
             scratch.norm.data() + r * spec_.hidden);
  }
  shapes_.qkv.apply(scratch.norm.data(), qkv_.data(), scratch.wide.data(), nullptr,
                    scratch.onednn.data());
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = scratch.wide.data() + r * shapes_.qkv_width;
    const float* cosine = cosine_.data() + (first + r) * (dim / 2);
    const float* sine = sine_.data() + (first + r) * (dim / 2);
    for (int head = 0; head < spec_.heads; ++head, row += dim) {
      rotate_half(row, cosine, sine, dim, q_.view()[head][first + r].data);
    }
    for (int head = 0; head < spec_.kv_heads; ++head, row += dim) {
      rotate_half(row, cosine, sine, dim, k_.view()[head][first + r].data);
    }
    for (int head = 0; head < spec_.kv_heads; ++head, row += dim) {
      std::copy_n(row, dim, v_.view()[head][first + r].data);
    }
  }
}

Status Decoder::Pass::project_qkv() {
  return for_chunks([&](int64_t chunk, Scratch& scratch) { qkv_chunk(chunk, scratch); });
}

Status Decoder::Pass::attend(int layer, const AttentionFn& attention) {
  LayerQkv qkv;
  qkv.layer = layer;
  qkv.q = q_.view();
  qkv.k = k_.view();
  qkv.v = v_.view();
  qkv.residual = stream_.view();
  qkv.wo = {plain_o_.data(), {spec_.hidden, shapes_.q_width}};
  return attention(qkv, o_.view());
}

void Decoder::Pass::add_to_stream(int64_t first, int64_t rows, const float* delta) {
  float* stream = stream_.view()[first].data;
  for (int64_t i = 0; i < rows * spec_.hidden; ++i) stream[i] += delta[i];
}

void Decoder::Pass::mlp_chunk(int64_t chunk, Scratch& scratch) {
  const int64_t first = chunk * kChunkRows;
  const int64_t rows = rows_of(chunk, tokens_);
  const int dim = spec_.head_dim;
  float* norm = scratch.norm.data();
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scratch.wide.data() + r * shapes_.q_width;
    for (int head = 0; head < spec_.heads; ++head, row += dim) {
      std::copy_n(o_.view()[head][first + r].data, dim, row);
    }
  }
  shapes_.o.apply(scratch.wide.data(), out_.data(), norm, nullptr, scratch.onednn.data());
  add_to_stream(first, rows, norm);
  for (int64_t r = 0; r < rows; ++r) {
    rms_norm(stream_.view()[first + r].data, ffn_norm_.data(), spec_.rms_eps, spec_.hidden,
             norm + r * spec_.hidden);
  }
  shapes_.gate.apply(norm, gate_.data(), scratch.wide.data(), nullptr, scratch.onednn.data());
  shapes_.up.apply(norm, up_.data(), scratch.wide2.data(), scratch.wide.data(),
                   scratch.onednn.data());
  shapes_.down.apply(scratch.wide2.data(), down_.data(), norm, nullptr, scratch.onednn.data());
  add_to_stream(first, rows, norm);
}

Status Decoder::Pass::project_and_mlp() {
  return for_chunks([&](int64_t chunk, Scratch& scratch) { mlp_chunk(chunk, scratch); });
}

Status Decoder::Pass::final_norm() {
  MI_CHECK(convert(*decoder_.weights_.final_norm, 0, threads_, ffn_norm_.data()));
  return for_chunks([&](int64_t chunk, Scratch&) {
    for (int64_t r = 0; r < rows_of(chunk, tokens_); ++r) {
      float* row = stream_.view()[chunk * kChunkRows + r].data;
      rms_norm(row, ffn_norm_.data(), spec_.rms_eps, spec_.hidden, row);
    }
  });
}

Decoder::Decoder(const ModelSpec& spec, DecoderWeights weights, std::string file)
    : spec_(spec),
      weights_(std::move(weights)),
      file_(std::move(file)),
      shapes_(std::make_unique<const Shapes>(spec)) {}

Decoder::~Decoder() = default;

Result<Tensor<float, 2>> Decoder::forward(std::span<const int32_t> ids,
                                          const AttentionFn& attention,
                                          const LayerProgressFn& progress) const {
  if (ids.empty()) return fail(Code::invalid_argument, "forward: got no tokens, expected some");
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab) {
      return fail(Code::invalid_argument, fmt::format("token {}: got id {}, expected 0 to {} ({})",
                                                      i, ids[i], spec_.vocab - 1, file_));
    }
  }
  Pass pass(*this, static_cast<int64_t>(ids.size()));
  MI_CHECK(pass.embed(ids));
  for (int layer = 0; layer < spec_.layers; ++layer) {
    MI_CHECK(pass.load(layer));
    MI_CHECK(pass.project_qkv());
    MI_CHECK(pass.attend(layer, attention));
    MI_CHECK(pass.project_and_mlp());
    if (progress) progress(layer + 1, spec_.layers);
  }
  MI_CHECK(pass.final_norm());
  return pass.take_stream();
}

Status Decoder::logits(TensorView<const float, 2> hidden, TensorView<float, 2> out) const {
  const int64_t rows = hidden.extent[0];
  if (hidden.extent[1] != spec_.hidden || out.extent[0] != rows || out.extent[1] != spec_.vocab) {
    return fail(
        Code::invalid_argument,
        fmt::format("logits: got hidden {} and out {}, expected [n, {}] and [n, {}]",
                    shape_text(hidden.extent), shape_text(out.extent), spec_.hidden, spec_.vocab));
  }
  const Linear& head = shapes_->head;
  struct Scratch {
    AlignedBuffer<float> plain, packed, x, y, onednn;
  };
  const int threads = omp_get_max_threads();
  std::vector<Scratch> all(count(threads));
  for (Scratch& scratch : all) {
    scratch.plain.resize(count(kHeadRows, spec_.hidden));
    scratch.packed.resize(head.packed_floats());
    scratch.x.resize(count(kChunkRows, spec_.hidden));
    scratch.y.resize(count(kChunkRows, kHeadRows));
    scratch.onednn.resize(head.scratch_floats());
  }
  return parallel_for((spec_.vocab + kHeadRows - 1) / kHeadRows, threads,
                      [&](int64_t b, int t) -> Status {
                        Scratch& scratch = all[count(t)];
                        const int64_t first = b * kHeadRows;
                        const int64_t width = std::min<int64_t>(kHeadRows, spec_.vocab - first);
                        MI_CHECK(convert_rows(*weights_.head, first, width, scratch.plain.data()));
                        head.pack(scratch.plain.data(), scratch.packed.data());
                        for (int64_t chunk = 0; chunk < chunks(rows); ++chunk) {
                          for (int64_t r = 0; r < rows_of(chunk, rows); ++r) {
                            std::copy_n(hidden[chunk * kChunkRows + r].data, spec_.hidden,
                                        scratch.x.data() + r * spec_.hidden);
                          }
                          head.apply(scratch.x.data(), scratch.packed.data(), scratch.y.data(),
                                     nullptr, scratch.onednn.data());
                          for (int64_t r = 0; r < rows_of(chunk, rows); ++r) {
                            std::copy_n(scratch.y.data() + r * kHeadRows, width,
                                        out[chunk * kChunkRows + r].data + first);
                          }
                        }
                        return Status{};
                      });
}

}  // namespace mi::search
