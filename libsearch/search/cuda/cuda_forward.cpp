#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/uploads.h"
#include "libruntime/cuda/device_plan.h"
#include "libsearch/model/cuda/device_pass.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/planned_attention.h"

namespace mi::search {
namespace {

using kernels::cuda::Sequence;

// Dense attention of a model's layers on the device.
class DenseAttention {
 public:
  [[nodiscard]] static Status check(const ModelSpec& spec) {
    const auto plan = make_plan(spec, 1);
    return plan ? Status{} : plan.error();
  }
  [[nodiscard]] static Result<DenseAttention> make(const ModelSpec& spec, int64_t tokens) {
    MI_TRY(auto plan, make_plan(spec, tokens));
    DenseAttention made(std::move(plan));
    runtime::DeviceMemory& at = made.at_;
    MI_TRY(made.table_, made.memory_.room<std::byte>(made.plan_.table_bytes()));
    at.table = made.table_;
    MI_TRY(at.workspace, made.memory_.room<std::byte>(made.plan_.workspace_bytes()));
    std::vector<double> nothing(1);
    MI_TRY(at.unspent, made.memory_.put(std::span(nothing)));
    MI_TRY(made.lse_, made.memory_.room<float>(static_cast<size_t>(spec.heads * tokens)));
    MI_TRY(auto stream, kernels::cuda::DeviceStream::make());
    MI_CHECK(stream.run([&](CUstream_st* on) { return made.plan_.upload(made.table_, on); }));
    return made;
  }
  [[nodiscard]] Status run(const DeviceLayerQkv& layer, CUstream_st* stream) const {
    Sequence<bf16> tensors = layer.tensors;
    tensors.lse = lse_;
    tensors.lse_head_stride = tensors.n_q;
    return plan_.run(layer.layer, tensors, at_, stream);
  }
  [[nodiscard]] const float* lse() const { return lse_; }  // [heads, tokens]

 private:
  static Result<runtime::DevicePlan> make_plan(const ModelSpec& spec, int64_t tokens) {
    return runtime::DevicePlan::make(dense_config(spec), {.n_q = tokens,
                                                          .n_kv = tokens,
                                                          .heads = spec.heads,
                                                          .kv_heads = spec.kv_heads,
                                                          .head_dim = spec.head_dim,
                                                          .element = runtime::Element::bf16,
                                                          .prompt_tokens = tokens});
  }
  explicit DenseAttention(runtime::DevicePlan plan) : plan_(std::move(plan)) {}
  runtime::DevicePlan plan_;
  kernels::cuda::Uploads memory_;
  runtime::DeviceMemory at_;
  std::byte* table_ = nullptr;
  float* lse_ = nullptr;
};

// A layer on this host, token by token as on the device.
class HostLayer {
 public:
  HostLayer(const ModelSpec& spec, int64_t tokens)
      : qkv_({tokens, spec.heads + 2 * spec.kv_heads, spec.head_dim}),
        o_({tokens, spec.heads, spec.head_dim}),
        lse_({spec.heads, tokens}),
        residual_({tokens, spec.hidden}) {}

  // Waits for what the stream was given.
  [[nodiscard]] Result<LayerDone> fetch(const DeviceLayerQkv& layer, const float* lse) {
    const auto get = [](auto& to, const void* from) {
      return kernels::cuda::download(to.data(), from, to.span().size_bytes());
    };
    MI_CHECK(get(qkv_, layer.tensors.q.data));
    MI_CHECK(get(o_, layer.tensors.o.data));
    MI_CHECK(get(lse_, lse));
    MI_CHECK(get(residual_, layer.residual));
    const int64_t heads = o_.extent(1);
    const int64_t kv_heads = (qkv_.extent(1) - heads) / 2;
    LayerDone done;
    done.qkv.layer = layer.layer;
    done.qkv.q = by_head(qkv_, 0, heads);
    done.qkv.k = by_head(qkv_, heads, kv_heads);
    done.qkv.v = by_head(qkv_, heads + kv_heads, kv_heads);
    done.qkv.residual = residual_.view();
    done.qkv.wo = layer.wo;
    done.o = by_head(o_, 0, heads);
    done.lse = lse_.view();
    return done;
  }

 private:
  // [count, tokens, head_dim] of heads from `first`.
  static TensorView<const bf16, 3> by_head(const Tensor<bf16, 3>& from, int64_t first,
                                           int64_t count) {
    const int64_t dim = from.extent(2);
    return {
        from.data() + first * dim, {count, from.extent(0), dim}, {dim, from.extent(1) * dim, 1}};
  }
  Tensor<bf16, 3> qkv_, o_;
  Tensor<float, 2> lse_, residual_;
};

class CudaForward final : public ForwardDevice {
 public:
  explicit CudaForward(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] std::string name() const override { return name_; }

  [[nodiscard]] Status check(const Model& model) const override {
    if (model.decoder() == nullptr)
      return fail(Code::unsupported, "--backend cuda: a capture has no layers to run");
    MI_CHECK(DevicePass::check(*model.decoder()));
    return DenseAttention::check(model.spec());
  }

  [[nodiscard]] Result<Tensor<float, 2>> dense(const Model& model, std::span<const int32_t> ids,
                                               int threads, const LayerDoneFn& layer_done,
                                               const LayerProgressFn& progress) const override {
    MI_CHECK(check(model));
    const auto tokens = static_cast<int64_t>(ids.size());
    MI_TRY(DevicePass pass, DevicePass::make(*model.decoder(), tokens, threads));
    MI_TRY(const DenseAttention attention, DenseAttention::make(model.spec(), tokens));
    HostLayer host(model.spec(), tokens);
    return pass.run(
        ids,
        [&](const DeviceLayerQkv& layer, CUstream_st* stream) -> Status {
          MI_CHECK(attention.run(layer, stream));
          MI_TRY(const LayerDone done, host.fetch(layer, attention.lse()));
          return layer_done(done);
        },
        progress);
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
