#include "libsearch/model/cuda/device_pass.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "kernels/cuda/launch.h"

namespace mi::search {
namespace {

using kernels::cuda::ActivateCall;
using kernels::cuda::AddCall;
using kernels::cuda::GemmCall;
using kernels::cuda::NormCall;
using kernels::cuda::RotateCall;

// Rows that the linear layers take at a time: their f32 results are 0.6 GB at ffn 14336, and a
// product of 4096 rows is large enough for any device.
constexpr int64_t kRows = 4096;
constexpr size_t kAlignment = 256;

}  // namespace

Status DevicePass::check(const Decoder& decoder) {
  const ModelSpec& spec = decoder.spec();
  if (spec.experts > 0)
    return fail(Code::unsupported,
                fmt::format("{}: has experts, --backend cuda does not run them", decoder.file()));
  if (spec.layers < spec.decoder_layers())
    return fail(Code::unsupported,
                fmt::format("{}: has layers with a sliding window, --backend cuda does not run "
                            "them",
                            decoder.file()));
  return {};
}

DevicePass::Places::Places(const ModelSpec& spec) {
  const auto take = [&](int64_t elements, size_t bytes) {
    const size_t place = end;
    end += (static_cast<size_t>(elements) * bytes + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  };
  const int64_t hidden = spec.hidden, ffn = spec.ffn;
  const int64_t q_width = int64_t{spec.heads} * spec.head_dim;
  const int64_t qkv_width = q_width + 2 * int64_t{spec.kv_heads} * spec.head_dim;
  qkv = take(qkv_width * hidden, sizeof(bf16));
  o = take(q_width * hidden, sizeof(bf16));
  gate = take(ffn * hidden, sizeof(bf16));
  up = take(ffn * hidden, sizeof(bf16));
  down = take(ffn * hidden, sizeof(bf16));
  for (size_t* place : {&attention_norm, &ffn_norm, &post_attention_norm, &post_ffn_norm, &o_bias})
    *place = take(hidden, sizeof(float));
  qkv_bias = take(qkv_width, sizeof(float));
  for (size_t* place : {&q_norm, &k_norm}) *place = take(spec.head_dim, sizeof(float));
}

DevicePass::DevicePass(const Decoder& decoder, int64_t tokens, int threads,
                       kernels::cuda::Gemm gemm)
    : decoder_(&decoder),
      spec_(&decoder.spec()),
      tokens_(tokens),
      threads_(threads),
      q_width_(int64_t{spec_->heads} * spec_->head_dim),
      qkv_width_(q_width_ + 2 * int64_t{spec_->kv_heads} * spec_->head_dim),
      gemm_(std::move(gemm)),
      places_(*spec_) {}

Result<DevicePass> DevicePass::make(const Decoder& decoder, int64_t tokens, int threads) {
  MI_CHECK(check(decoder));
  MI_TRY(auto gemm, kernels::cuda::Gemm::make());
  DevicePass made(decoder, tokens, threads, std::move(gemm));
  MI_CHECK(made.allocate());
  return made;
}

Status DevicePass::allocate() {
  MI_TRY(compute_, kernels::cuda::DeviceStream::make());
  MI_TRY(copy_, kernels::cuda::DeviceStream::make());
  for (Slot& slot : slots_) {
    MI_TRY(slot.host, kernels::cuda::PinnedBuffer::make(places_.end));
    MI_TRY(slot.device, kernels::cuda::DeviceBuffer::make(places_.end));
    MI_TRY(slot.copied, kernels::cuda::DeviceEvent::make());
    MI_TRY(slot.used, kernels::cuda::DeviceEvent::make());
    slot.wo.resize(static_cast<size_t>(spec_->hidden * q_width_));
  }
  const auto room = [&](auto*& array, int64_t rows, int64_t width) -> Status {
    using T = std::remove_reference_t<decltype(*array)>;
    MI_TRY(array, memory_.room<T>(static_cast<size_t>(rows * width)));
    return {};
  };
  const int64_t chunk = std::min(tokens_, kRows);
  MI_CHECK(room(stream_, tokens_, spec_->hidden));
  MI_CHECK(room(qkv_, tokens_, qkv_width_));
  MI_CHECK(room(o_, tokens_, q_width_));
  MI_CHECK(room(norm_, chunk, spec_->hidden));
  MI_CHECK(room(wide_qkv_, chunk, qkv_width_));
  MI_CHECK(room(delta_, chunk, spec_->hidden));
  MI_CHECK(room(gate_, chunk, spec_->ffn));
  MI_CHECK(room(up_, chunk, spec_->ffn));
  MI_CHECK(room(active_, chunk, spec_->ffn));
  RopeAngles angles = rope_angles(spec_->rope, 0, tokens_, spec_->context);
  MI_TRY(cosine_, memory_.put(std::span(angles.cosine)));
  MI_TRY(sine_, memory_.put(std::span(angles.sine)));
  MI_TRY(std::vector<float> norm, load_final_norm(decoder_->weights()));
  MI_TRY(final_norm_, memory_.put(std::span(norm)));
  return {};
}

// To the host's copy.
Status DevicePass::fill(int layer, Slot& slot) {
  const DecoderWeights& weights = decoder_->weights();
  const LayerWeights& of = weights.layers[static_cast<size_t>(layer)];
  const MlpWeights& mlp = of.mlps.front();
  const RowOrder order = rotary_order(weights, *spec_);
  const auto matrix = [&](size_t place) {
    return reinterpret_cast<bf16*>(slot.host.data() + place);
  };
  const int64_t kv_width = (qkv_width_ - q_width_) / 2;
  bf16* const k = matrix(places_.qkv) + q_width_ * spec_->hidden;
  bf16* const v = k + kv_width * spec_->hidden;
  MI_CHECK(convert(*of.q, order, threads_, matrix(places_.qkv)));
  MI_CHECK(convert(*of.k, order, threads_, k));
  MI_CHECK(convert(*of.v, {}, threads_, v));
  MI_CHECK(convert(*of.o, {}, threads_, matrix(places_.o)));
  MI_CHECK(convert(*of.o, {}, threads_, slot.wo.data()));
  MI_CHECK(convert(*mlp.gate, {}, threads_, matrix(places_.gate)));
  MI_CHECK(convert(*mlp.up, {}, threads_, matrix(places_.up)));
  MI_CHECK(convert(*mlp.down, {}, threads_, matrix(places_.down)));
  MI_TRY(slot.vectors, load_vectors(weights, layer, *spec_));
  const LayerVectors& vectors = slot.vectors;
  const auto put = [&](const std::vector<float>& vector, size_t place) {
    std::copy(vector.begin(), vector.end(), reinterpret_cast<float*>(slot.host.data() + place));
  };
  put(vectors.attention_norm, places_.attention_norm);
  put(vectors.ffn_norm, places_.ffn_norm);
  put(vectors.post_attention_norm, places_.post_attention_norm);
  put(vectors.post_ffn_norm, places_.post_ffn_norm);
  put(vectors.qkv_bias, places_.qkv_bias);
  put(vectors.o_bias, places_.o_bias);
  put(vectors.q_norm, places_.q_norm);
  put(vectors.k_norm, places_.k_norm);
  return {};
}

Status DevicePass::load(int layer) {
  Slot& slot = slots_[static_cast<size_t>(layer) % slots_.size()];
  MI_CHECK(slot.copied.wait());  // of the layer before the last one: the host's copy is free
  MI_CHECK(fill(layer, slot));
  decoder_->release(layer);
  if (layer + 1 < spec_->layers) decoder_->will_need(layer + 1);
  MI_CHECK(slot.used.hold(copy_.get()));
  MI_CHECK(kernels::cuda::upload(slot.device.data(), slot.host.data(), places_.end, copy_.get()));
  return slot.copied.record(copy_.get());
}

template <class Body>
Status DevicePass::for_chunks(const Body& body) const {
  for (int64_t first = 0; first < tokens_; first += kRows)
    MI_CHECK(body(first, std::min(kRows, tokens_ - first)));
  return {};
}

template <class Out>
Status DevicePass::norm(int64_t first, int64_t rows, const float* weight, Out* out) const {
  return kernels::cuda::launch_norm(NormCall<Out>{.x = stream_ + first * spec_->hidden,
                                                  .weight = weight,
                                                  .out = out,
                                                  .rows = rows,
                                                  .width = spec_->hidden,
                                                  .eps = static_cast<float>(spec_->rms_eps)},
                                    compute_.get());
}

Status DevicePass::multiply(const bf16* x, const bf16* w, float* y, int64_t rows, int64_t in,
                            int64_t out) const {
  return gemm_.launch(GemmCall<float>{.x = x, .w = w, .y = y, .rows = rows, .in = in, .out = out},
                      compute_.get());
}

// What delta_ holds, to the stream.
Status DevicePass::add(int64_t first, int64_t rows, const float* bias, const float* norm) const {
  return kernels::cuda::launch_add({.stream = stream_ + first * spec_->hidden,
                                    .delta = delta_,
                                    .bias = bias,
                                    .norm = norm,
                                    .rows = rows,
                                    .width = spec_->hidden,
                                    .eps = static_cast<float>(spec_->rms_eps)},
                                   compute_.get());
}

Status DevicePass::project_qkv(const Slot& slot) {
  const LayerVectors& vectors = slot.vectors;
  return for_chunks([&](int64_t first, int64_t rows) -> Status {
    MI_CHECK(norm(first, rows, slot.vector(vectors.attention_norm, places_.attention_norm), norm_));
    MI_CHECK(multiply(norm_, slot.matrix(places_.qkv), wide_qkv_, rows, spec_->hidden, qkv_width_));
    const int64_t half = spec_->rope.dim / 2;
    return kernels::cuda::launch_rotate({.qkv = wide_qkv_,
                                         .out = qkv_ + first * qkv_width_,
                                         .bias = slot.vector(vectors.qkv_bias, places_.qkv_bias),
                                         .q_norm = slot.vector(vectors.q_norm, places_.q_norm),
                                         .k_norm = slot.vector(vectors.k_norm, places_.k_norm),
                                         .cosine = cosine_ + first * half,
                                         .sine = sine_ + first * half,
                                         .rows = rows,
                                         .heads = spec_->heads,
                                         .kv_heads = spec_->kv_heads,
                                         .head_dim = spec_->head_dim,
                                         .turning = spec_->rope.dim,
                                         .eps = static_cast<float>(spec_->rms_eps)},
                                        compute_.get());
  });
}

Status DevicePass::project_and_mlp(const Slot& slot) {
  const LayerVectors& vectors = slot.vectors;
  const int64_t hidden = spec_->hidden, ffn = spec_->ffn;
  return for_chunks([&](int64_t first, int64_t rows) -> Status {
    MI_CHECK(
        multiply(o_ + first * q_width_, slot.matrix(places_.o), delta_, rows, q_width_, hidden));
    MI_CHECK(add(first, rows, slot.vector(vectors.o_bias, places_.o_bias),
                 slot.vector(vectors.post_attention_norm, places_.post_attention_norm)));
    MI_CHECK(norm(first, rows, slot.vector(vectors.ffn_norm, places_.ffn_norm), norm_));
    MI_CHECK(multiply(norm_, slot.matrix(places_.gate), gate_, rows, hidden, ffn));
    MI_CHECK(multiply(norm_, slot.matrix(places_.up), up_, rows, hidden, ffn));
    MI_CHECK(kernels::cuda::launch_activate({.gate = gate_,
                                             .up = up_,
                                             .out = active_,
                                             .count = rows * ffn,
                                             .gelu = spec_->gelu ? 1 : 0},
                                            compute_.get()));
    MI_CHECK(multiply(active_, slot.matrix(places_.down), delta_, rows, ffn, hidden));
    return add(first, rows, nullptr, slot.vector(vectors.post_ffn_norm, places_.post_ffn_norm));
  });
}

kernels::cuda::Sequence<bf16> DevicePass::sequence() const {
  const int64_t dim = spec_->head_dim;
  const bf16* const k = qkv_ + q_width_;
  const bf16* const v = k + spec_->kv_heads * dim;
  return {.q = {qkv_, qkv_width_, dim},
          .k = {k, qkv_width_, dim},
          .v = {v, qkv_width_, dim},
          .o = {o_, q_width_, dim},
          .n_q = tokens_,
          .n_kv = tokens_};
}

Result<Tensor<float, 2>> DevicePass::run(std::span<const int32_t> ids,
                                         const DeviceAttentionFn& attention,
                                         const LayerProgressFn& progress) {
  MI_CHECK(decoder_->check(ids, 0));
  if (static_cast<int64_t>(ids.size()) != tokens_)
    return fail(Code::invalid_argument,
                fmt::format("forward: got {} tokens, expected {}", ids.size(), tokens_));
  Tensor<float, 2> hidden({tokens_, spec_->hidden});
  MI_CHECK(embed(decoder_->weights(), *spec_, ids, threads_, hidden.view()));
  const size_t bytes = hidden.span().size_bytes();
  MI_CHECK(kernels::cuda::upload(reinterpret_cast<std::byte*>(stream_), hidden.data(), bytes,
                                 compute_.get()));
  MI_CHECK(load(0));
  for (int layer = 0; layer < spec_->layers; ++layer) {
    const Slot& slot = slots_[static_cast<size_t>(layer) % slots_.size()];
    MI_CHECK(slot.copied.hold(compute_.get()));
    MI_CHECK(project_qkv(slot));
    MI_CHECK(attention({.layer = layer,
                        .tensors = sequence(),
                        .residual = stream_,
                        .wo = {slot.wo.data(), {spec_->hidden, q_width_}}},
                       compute_.get()));
    MI_CHECK(project_and_mlp(slot));
    MI_CHECK(slot.used.record(compute_.get()));
    if (layer + 1 < spec_->layers) MI_CHECK(load(layer + 1));
    if (progress) progress(layer + 1, spec_->layers);
  }
  MI_CHECK(for_chunks([&](int64_t first, int64_t rows) {
    return norm(first, rows, final_norm_, stream_ + first * spec_->hidden);
  }));
  MI_CHECK(compute_.wait());
  MI_CHECK(kernels::cuda::download(hidden.data(), stream_, bytes));
  return hidden;
}

}  // namespace mi::search
