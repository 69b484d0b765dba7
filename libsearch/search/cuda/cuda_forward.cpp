#include <span>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/uploads.h"
#include "libsearch/model/cuda/device_pass.h"
#include "libsearch/search/cuda/device_attention.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/score_table.h"

namespace mi::search {
namespace {

// What attention made of a layer, on this host; token by token as on the device.
class HostOutput {
 public:
  HostOutput(const ModelSpec& spec, int64_t tokens)
      : o_({tokens, spec.heads, spec.head_dim}), lse_({spec.heads, tokens}) {}

  // Waits for what the stream was given.
  [[nodiscard]] Status fetch(const bf16* o, const float* lse) {
    MI_CHECK(kernels::cuda::download(o_.data(), o, o_.span().size_bytes()));
    return kernels::cuda::download(lse_.data(), lse, lse_.span().size_bytes());
  }
  [[nodiscard]] TensorView<const bf16, 3> o() const { return by_head(o_, 0, o_.extent(1)); }
  [[nodiscard]] TensorView<const float, 2> lse() const { return lse_.view(); }

  // [count, tokens, head_dim] of heads from `first`.
  static TensorView<const bf16, 3> by_head(const Tensor<bf16, 3>& from, int64_t first,
                                           int64_t count) {
    const int64_t dim = from.extent(2);
    return {
        from.data() + first * dim, {count, from.extent(0), dim}, {dim, from.extent(1) * dim, 1}};
  }

 private:
  Tensor<bf16, 3> o_;
  Tensor<float, 2> lse_;
};

// What attention reads of a layer, likewise.
class HostInput {
 public:
  HostInput(const ModelSpec& spec, int64_t tokens)
      : heads_(spec.heads),
        kv_heads_(spec.kv_heads),
        qkv_({tokens, spec.heads + 2 * spec.kv_heads, spec.head_dim}),
        residual_({tokens, spec.hidden}) {}

  // Waits for what the stream was given.
  [[nodiscard]] Result<BasicLayerQkv<bf16>> fetch(const DeviceLayerQkv& layer) {
    MI_CHECK(kernels::cuda::download(qkv_.data(), layer.tensors.q.data, qkv_.span().size_bytes()));
    MI_CHECK(
        kernels::cuda::download(residual_.data(), layer.residual, residual_.span().size_bytes()));
    BasicLayerQkv<bf16> qkv;
    qkv.layer = layer.layer;
    qkv.q = HostOutput::by_head(qkv_, 0, heads_);
    qkv.k = HostOutput::by_head(qkv_, heads_, kv_heads_);
    qkv.v = HostOutput::by_head(qkv_, heads_ + kv_heads_, kv_heads_);
    qkv.residual = residual_.view();
    qkv.wo = layer.wo;
    return qkv;
  }

 private:
  int64_t heads_, kv_heads_;
  Tensor<bf16, 3> qkv_;
  Tensor<float, 2> residual_;
};

class CudaForward final : public ForwardDevice {
 public:
  explicit CudaForward(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] std::string name() const override { return name_; }

  [[nodiscard]] Status check(const Model& model) const override {
    if (model.decoder() == nullptr)
      return fail(Code::unsupported, "--backend cuda: a capture has no layers to run");
    MI_CHECK(DevicePass::check(*model.decoder()));
    const ModelSpec& spec = model.spec();
    const auto plan =
        runtime::DevicePlan::make(dense_config(spec), {.n_q = 1,
                                                       .n_kv = 1,
                                                       .heads = spec.heads,
                                                       .kv_heads = spec.kv_heads,
                                                       .head_dim = spec.head_dim,
                                                       .element = runtime::Element::bf16});
    return plan ? Status{} : plan.error();
  }

  [[nodiscard]] Result<Tensor<float, 2>> dense(const Model& model, std::span<const int32_t> ids,
                                               const ComputeOptions& options,
                                               const LayerDoneFn& layer_done,
                                               const LayerProgressFn& progress) const override {
    MI_CHECK(check(model));
    const ModelSpec& spec = model.spec();
    const auto tokens = static_cast<int64_t>(ids.size());
    MI_TRY(DevicePass pass, DevicePass::make(*model.decoder(), tokens, options.threads));
    MI_TRY(const auto attention, DeviceAttention::make(dense_config(spec), tokens, 0));
    HostInput input(spec, tokens);
    HostOutput output(spec, tokens);
    return pass.run(
        ids,
        [&](const DeviceLayerQkv& layer, CUstream_st* stream) -> Status {
          MI_CHECK(attention.run(layer, layer.tensors.o, stream));
          if (!layer_done) return {};
          LayerDone done;
          MI_TRY(done.qkv, input.fetch(layer));
          MI_CHECK(output.fetch(layer.tensors.o.data, attention.lse()));
          done.o = output.o();
          done.lse = output.lse();
          return layer_done(done);
        },
        progress);
  }

  [[nodiscard]] Result<SparsePass> sparse(const Model& model, const runtime::HeadConfig& config,
                                          std::span<const int32_t> ids,
                                          const ComputeOptions& options,
                                          const LayerComparedFn& layer_done,
                                          const LayerProgressFn& progress) const override {
    MI_CHECK(check(model));
    const ModelSpec& spec = model.spec();
    const auto tokens = static_cast<int64_t>(ids.size());
    MI_TRY(DevicePass pass, DevicePass::make(*model.decoder(), tokens, options.threads));
    MI_TRY(const auto dense, DeviceAttention::make(dense_config(spec), tokens, 0));
    MI_TRY(const auto sparse, DeviceAttention::make(config, tokens, options.chunk));
    kernels::cuda::Uploads memory;
    const int64_t width = int64_t{spec.heads} * spec.head_dim;
    MI_TRY(bf16* const dense_o, memory.room<bf16>(static_cast<size_t>(tokens * width)));
    HostInput input(spec, tokens);
    HostOutput dense_output(spec, tokens), sparse_output(spec, tokens);
    SparsePass done;
    done.notes = sparse.notes();
    MI_TRY(done.hidden, pass.run(
                            ids,
                            [&](const DeviceLayerQkv& layer, CUstream_st* stream) -> Status {
                              MI_CHECK(sparse.run(layer, layer.tensors.o, stream));
                              MI_CHECK(dense.run(layer, {dense_o, width, spec.head_dim}, stream));
                              LayerCompared compared;
                              MI_TRY(compared.dense.qkv, input.fetch(layer));
                              MI_CHECK(dense_output.fetch(dense_o, dense.lse()));
                              MI_CHECK(sparse_output.fetch(layer.tensors.o.data, sparse.lse()));
                              MI_TRY(const auto stats, sparse.stats(layer.layer));
                              compared.dense.o = dense_output.o();
                              compared.dense.lse = dense_output.lse();
                              compared.o = sparse_output.o();
                              compared.lse = sparse_output.lse();
                              compared.stats = stats;
                              return layer_done(compared);
                            },
                            progress));
    return done;
  }

 private:
  std::string name_;
};

}  // namespace

Result<std::unique_ptr<ForwardDevice>> open_cuda() {
  MI_TRY(const auto info, kernels::cuda::device_info());
  MI_TRY([[maybe_unused]] const auto gemm, kernels::cuda::Gemm::make());
  return std::unique_ptr<ForwardDevice>(std::make_unique<CudaForward>(info.name));
}

}  // namespace mi::search
