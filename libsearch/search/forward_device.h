// Forward passes that run elsewhere than on this CPU. Two definitions of open_cuda: of
// cuda/cuda_forward.cpp, and of cuda/absent.cpp in a build without cuBLAS.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libsearch/model/model.h"

namespace mi::search {

// A layer with its dense attention, copied to this host.
struct LayerDone {
  BasicLayerQkv<bf16> qkv;
  TensorView<const bf16, 3> o;     // [heads, tokens, head_dim]
  TensorView<const float, 2> lse;  // [heads, tokens]
};
using LayerDoneFn = std::function<Status(const LayerDone&)>;

class ForwardDevice {
 public:
  virtual ~ForwardDevice() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  // Whether it runs such a model. Errors: unsupported, with the reason.
  [[nodiscard]] virtual Status check(const Model& model) const = 0;
  // A dense pass in bf16 with attention, as Model::forward. Calls layer_done before the next layer
  // is begun. Errors: as check; device; out_of_memory.
  [[nodiscard]] virtual Result<Tensor<float, 2>> dense(const Model& model,
                                                       std::span<const int32_t> ids, int threads,
                                                       const LayerDoneFn& layer_done,
                                                       const LayerProgressFn& progress) const = 0;
};

// The current CUDA device. Errors: unsupported, where this build or this machine has no cuBLAS;
// device, where there is none, by the CUDA error's name.
[[nodiscard]] Result<std::unique_ptr<ForwardDevice>> open_cuda();

}  // namespace mi::search
