#include "libsearch/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <omp.h>

#include "libsearch/model/forward_pass.h"
#include "libsearch/model/parallel.h"

namespace mi::search {
namespace {

// Vocabulary rows of the output matrix that are converted and packed at a time. 512 rows of 576 are
// 1.2 MB, and their packing is 1/128 of the arithmetic of one full chunk.
constexpr int kHeadRows = 512;
using HeadLinear = Linear<float, float>;

// What one thread needs for the output matrix.
struct HeadScratch {
  HeadScratch(const HeadLinear& head, int hidden)
      : plain(static_cast<size_t>(kHeadRows) * static_cast<size_t>(hidden)),
        packed(head.packed_bytes()),
        x(static_cast<size_t>(kChunkRows) * static_cast<size_t>(hidden)),
        y(static_cast<size_t>(kChunkRows) * kHeadRows),
        onednn(head.scratch_bytes()) {}
  AlignedBuffer<float> plain;
  AlignedBuffer<std::byte> packed;
  AlignedBuffer<float> x, y;
  AlignedBuffer<std::byte> onednn;
};

// Logits of one chunk of rows for the vocabulary block [first, first + width).
void head_chunk(const HeadLinear& head, int64_t chunk, TensorView<const float, 2> hidden,
                int64_t first, int64_t width, double softcap, HeadScratch& scratch,
                TensorView<float, 2> out) {
  const int64_t rows = chunk_rows(chunk, hidden.extent[0]);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(hidden[chunk * kChunkRows + r].data, hidden.extent[1],
                scratch.x.data() + r * hidden.extent[1]);
  }
  head.apply(scratch.x.data(), scratch.packed.data(), scratch.y.data(), nullptr,
             scratch.onednn.data());
  for (int64_t r = 0; r < rows; ++r) {
    const float* y = scratch.y.data() + r * kHeadRows;
    float* to = out[chunk * kChunkRows + r].data + first;
    std::copy_n(y, width, to);
    if (const auto cap = static_cast<float>(softcap); cap > 0)
      for (int64_t i = 0; i < width; ++i) to[i] = cap * std::tanh(y[i] / cap);
  }
}

}  // namespace

// Made once; those of bf16 by the pass that wants them, as not every CPU has them.
struct Decoder::Primitives {
  explicit Primitives(const ModelSpec& spec)
      : layers(spec), head(spec.hidden, kHeadRows, Epilogue::none) {}
  DecoderShapes<float> layers;
  HeadLinear head;
};

Decoder::Decoder(const ModelSpec& spec, const TensorTable& tensors, DecoderWeights weights,
                 std::string file)
    : spec_(spec),
      tensors_(tensors),
      weights_(std::move(weights)),
      file_(std::move(file)),
      primitives_(std::make_unique<const Primitives>(spec)) {}

Decoder::~Decoder() = default;

Result<Tensor<float, 2>> Decoder::forward(std::span<const int32_t> ids,
                                          const AttentionFn& attention,
                                          const LayerProgressFn& progress, int64_t position) const {
  return run<float>(primitives_->layers, ids, attention, progress, position);
}

Result<Tensor<float, 2>> Decoder::forward(std::span<const int32_t> ids,
                                          const BasicAttentionFn<bf16>& attention,
                                          const LayerProgressFn& progress, int64_t position) const {
  MI_CHECK(bf16_linear_available());
  return run<bf16>(DecoderShapes<bf16>(spec_), ids, attention, progress, position);
}

Status Decoder::check(std::span<const int32_t> ids, int64_t position) const {
  if (ids.empty()) return fail(Code::invalid_argument, "forward: got no tokens, expected some");
  if (position < 0)
    return fail(Code::invalid_argument, fmt::format("forward: got position {}", position));
  if (const auto end = position + static_cast<int64_t>(ids.size());
      spec_.most_tokens > 0 && end > spec_.most_tokens)
    return fail(Code::unsupported,
                fmt::format("{}: got {} tokens, supported: up to {}, as no layer attends to more "
                            "(sliding_window)",
                            file_, end, spec_.most_tokens));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab) {
      return fail(Code::invalid_argument, fmt::format("token {}: got id {}, expected 0 to {} ({})",
                                                      i, ids[i], spec_.vocab - 1, file_));
    }
  }
  return {};
}

void Decoder::will_need(int layer) const {
  for (const WeightTensor* tensor : weights_.layers[static_cast<size_t>(layer)].large())
    tensors_.will_need(*tensor);
}
void Decoder::release(int layer) const {
  for (const WeightTensor* tensor : weights_.layers[static_cast<size_t>(layer)].large())
    tensors_.release(*tensor);
}

template <class T>
Result<Tensor<float, 2>> Decoder::run(const DecoderShapes<T>& shapes, std::span<const int32_t> ids,
                                      const BasicAttentionFn<T>& attention,
                                      const LayerProgressFn& progress, int64_t position) const {
  MI_CHECK(check(ids, position));
  ForwardPass<T> pass(spec_, weights_, shapes, static_cast<int64_t>(ids.size()), position);
  MI_CHECK(pass.embed(ids));
  tensors_.release(*weights_.embedding);
  const int layers = spec_.decoder_layers();
  for (int layer = 0; layer < layers; ++layer) {
    MI_CHECK(pass.load(layer));
    release(layer);
    if (layer + 1 < layers) will_need(layer + 1);
    MI_CHECK(pass.project_qkv(layer));
    MI_CHECK(pass.attend(layer, attention));
    MI_CHECK(pass.project_and_mlp(layer));
    if (spec_.experts > 0) release(layer);  // read one after the other
    if (progress) progress(layer + 1, layers);
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
  const int threads = omp_get_max_threads();
  std::vector<HeadScratch> scratch;
  for (int i = 0; i < threads; ++i) scratch.emplace_back(primitives_->head, spec_.hidden);
  const auto one_block = [&](int64_t block, int thread) -> Status {
    HeadScratch& own = scratch[static_cast<size_t>(thread)];
    const int64_t first = block * kHeadRows;
    const int64_t width = std::min<int64_t>(kHeadRows, spec_.vocab - first);
    MI_CHECK(convert_rows(*weights_.head, first, width, own.plain.data()));
    primitives_->head.pack(own.plain.data(), own.packed.data());
    for (int64_t chunk = 0; chunk < chunk_count(rows); ++chunk) {
      head_chunk(primitives_->head, chunk, hidden, first, width, spec_.logit_softcap, own, out);
    }
    return {};
  };
  Status done = parallel_for((spec_.vocab + kHeadRows - 1) / kHeadRows, threads, one_block);
  tensors_.release(*weights_.head);
  return done;
}

}  // namespace mi::search
