// Forward passes that run elsewhere than on this CPU. Two definitions of open_cuda: of
// cuda/cuda_forward.cpp, and of cuda/absent.cpp in a build without cuBLAS.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libruntime/config.h"
#include "libruntime/plan.h"
#include "libsearch/model/model.h"

namespace mi::search {

// A layer with its dense attention, copied to this host.
struct LayerDone {
  BasicLayerQkv<bf16> qkv;
  TensorView<const bf16, 3> o;     // [heads, tokens, head_dim]
  TensorView<const float, 2> lse;  // [heads, tokens]
};
using LayerDoneFn = std::function<Status(const LayerDone&)>;

// The same with what a head-config makes of it.
struct LayerCompared {
  LayerDone dense;
  TensorView<const bf16, 3> o;
  TensorView<const float, 2> lse;
  std::span<const runtime::HeadStats> stats;  // [heads]
};
using LayerComparedFn = std::function<Status(const LayerCompared&)>;

struct SparsePass {
  Tensor<float, 2> hidden;         // as Model::forward's
  std::vector<std::string> notes;  // of the plans
};

struct ComputeOptions;

// Passes are in bf16, attention too. Both call their function before the next layer is begun.
// Errors: as check; device; out_of_memory.
class ForwardDevice {
 public:
  virtual ~ForwardDevice() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  // Whether it runs such a model. Errors: unsupported, with the reason.
  [[nodiscard]] virtual Status check(const Model& model) const = 0;
  // A dense pass, as Model::forward; layer_done may be empty.
  [[nodiscard]] virtual Result<Tensor<float, 2>> dense(const Model& model,
                                                       std::span<const int32_t> ids,
                                                       const ComputeOptions& options,
                                                       const LayerDoneFn& layer_done,
                                                       const LayerProgressFn& progress) const = 0;
  // A pass by a head-config, in chunks of options.chunk where that is not 0; each layer's dense
  // attention, too.
  [[nodiscard]] virtual Result<SparsePass> sparse(const Model& model,
                                                  const runtime::HeadConfig& config,
                                                  std::span<const int32_t> ids,
                                                  const ComputeOptions& options,
                                                  const LayerComparedFn& layer_done,
                                                  const LayerProgressFn& progress) const = 0;
};

// The current CUDA device. Errors: unsupported, where this build or this machine has no cuBLAS;
// device, where there is none, by the CUDA error's name.
[[nodiscard]] Result<std::unique_ptr<ForwardDevice>> open_cuda();

}  // namespace mi::search
