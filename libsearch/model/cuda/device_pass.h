// A decoder's forward pass on a CUDA device, in bf16 as Decoder's: linear layers by cuBLAS, q, k, v
// and o in bf16; the stream, norms, the rotary embedding and all sums in f32. One layer's weights
// are used while the next one's are read and copied.
//
// State: run by the emulator of tests/cuda, products by plain loops; never on hardware.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kernels/cuda/attend_call.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/uploads.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/decoder.h"
#include "libsearch/model/layer_load.h"

namespace mi::search {

// What a layer hands to attention, which is to write o.
struct DeviceLayerQkv {
  int layer = 0;
  kernels::cuda::Sequence<bf16> tensors;  // n_q = n_kv, lse null
  const float* residual = nullptr;        // [tokens, hidden]
  TensorView<const float, 2> wo;          // of the host, [hidden, heads * head_dim]
};
// Puts the attention on the stream; may wait for it.
using DeviceAttentionFn = std::function<Status(const DeviceLayerQkv&, CUstream_st*)>;

class DevicePass {
 public:
  // Whether such a model can be run. Errors: unsupported, for experts and sliding windows.
  [[nodiscard]] static Status check(const Decoder& decoder);
  // Holds memory for prompts of so many tokens. The decoder must outlive it. Errors: as
  // check; unsupported, without cuBLAS; device; out_of_memory, with the bytes needed.
  [[nodiscard]] static Result<DevicePass> make(const Decoder& decoder, int64_t tokens, int threads);

  // As Model::forward, of `tokens` ids from position 0.
  [[nodiscard]] Result<Tensor<float, 2>> run(std::span<const int32_t> ids,
                                             const DeviceAttentionFn& attention,
                                             const LayerProgressFn& progress);

 private:
  // Places in a layer's weights, in bytes.
  struct Places {
    explicit Places(const ModelSpec& spec);
    size_t qkv = 0, o = 0, gate = 0, up = 0, down = 0;
    size_t attention_norm = 0, ffn_norm = 0, post_attention_norm = 0, post_ffn_norm = 0;
    size_t qkv_bias = 0, o_bias = 0, q_norm = 0, k_norm = 0;
    size_t end = 0;
  };
  // Weights of one layer, on their way and there.
  struct Slot {
    kernels::cuda::PinnedBuffer host;
    kernels::cuda::DeviceBuffer device;
    kernels::cuda::DeviceEvent copied, used;
    LayerVectors vectors;
    AlignedBuffer<float> wo;  // of the host

    [[nodiscard]] const bf16* matrix(size_t place) const {
      return reinterpret_cast<const bf16*>(device.data() + place);
    }
    // Null where the model has none.
    [[nodiscard]] const float* vector(const std::vector<float>& of, size_t place) const {
      return of.empty() ? nullptr : reinterpret_cast<const float*>(device.data() + place);
    }
  };

  DevicePass(const Decoder& decoder, int64_t tokens, int threads, kernels::cuda::Gemm gemm);
  [[nodiscard]] Status allocate();
  [[nodiscard]] Status load(int layer);
  [[nodiscard]] Status fill(int layer, Slot& slot);
  [[nodiscard]] Status project_qkv(const Slot& slot);
  [[nodiscard]] Status project_and_mlp(const Slot& slot);
  [[nodiscard]] kernels::cuda::Sequence<bf16> sequence() const;
  template <class Out>
  [[nodiscard]] Status norm(int64_t first, int64_t rows, const float* weight, Out* out) const;
  [[nodiscard]] Status multiply(const bf16* x, const bf16* w, float* y, int64_t rows, int64_t in,
                                int64_t out) const;
  [[nodiscard]] Status add(int64_t first, int64_t rows, const float* bias, const float* norm) const;
  template <class Body>
  [[nodiscard]] Status for_chunks(const Body& body) const;

  const Decoder* decoder_;
  const ModelSpec* spec_;
  int64_t tokens_;
  int threads_;
  int64_t q_width_, qkv_width_;
  kernels::cuda::Gemm gemm_;
  Places places_;
  kernels::cuda::DeviceStream compute_, copy_;
  kernels::cuda::Uploads memory_;
  std::array<Slot, 2> slots_;
  // Of the device.
  float* stream_ = nullptr;                    // [tokens, hidden]
  bf16* qkv_ = nullptr;                        // [tokens, heads + 2 kv_heads, head_dim]
  bf16* o_ = nullptr;                          // [tokens, heads, head_dim]
  float *cosine_ = nullptr, *sine_ = nullptr;  // [tokens, rope.dim / 2]
  float* final_norm_ = nullptr;                // [hidden]
  // Of a chunk of rows.
  bf16 *norm_ = nullptr, *active_ = nullptr;
  float *wide_qkv_ = nullptr, *gate_ = nullptr, *up_ = nullptr, *delta_ = nullptr;
};

}  // namespace mi::search
