// A head-config made ready for one shape of call. Planning validates and sizes everything;
// running a layer allocates nothing and cannot fail on anything but wrong views.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/half.h"
#include "kernels/tensor_view.h"
#include "libruntime/config.h"
#include "libruntime/plan_heads.h"
#include "libruntime/select.h"

namespace mi::runtime {

// What a run executed for one head.
struct HeadStats {
  int64_t tiles = 0;  // of 64 x 64 scores
  double estimate_flops = 0;
  double share = 0;     // of dense attention
  bool capped = false;  // the config's share bound this prompt
};

// What the layers run so far left of their share caps, in tiles; negative when they spent more. One
// per forward pass, 0 at its start, handed to every layer in turn.
struct Unspent {
  double tiles = 0;
};

class Plan {
 public:
  // threads 0: as many as OpenMP gives. Errors: unsupported shape, a config of another model.
  [[nodiscard]] static Result<Plan> make(const HeadConfig& config, const PlanShape& shape,
                                         const kernels::Backend& backend, int threads = 0);

  // 64-byte aligned memory that run() needs; the same for every layer.
  [[nodiscard]] size_t workspace_bytes() const { return workspace_bytes_; }
  // Things the caller should know once, such as a length outside the calibrated range.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  [[nodiscard]] int layers() const { return static_cast<int>(layers_.size()); }

  // q, o [heads, n_q, head_dim]; k, v [kv_heads, n_kv, head_dim]; any strides with a contiguous
  // innermost dimension. lse [heads, n_q] and stats [heads] may be empty. The layer may spend its
  // own share caps and what `unspent` holds.
  [[nodiscard]] Status run(int layer, TensorView<const float, 3> q, TensorView<const float, 3> k,
                           TensorView<const float, 3> v, TensorView<float, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           Unspent& unspent) const;
  // The same for a plan of bf16 elements. Sums are f32; probabilities are rounded to bf16. A row
  // block whose selected keys would take longer to gather than all keys in order runs dense.
  [[nodiscard]] Status run(int layer, TensorView<const bf16, 3> q, TensorView<const bf16, 3> k,
                           TensorView<const bf16, 3> v, TensorView<bf16, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           Unspent& unspent) const;
  // f16 elements: exactly the f32 run on the same numbers, its outputs rounded, in the time of an
  // f32 run. bf16 tiles would lose three of f16's eleven bits; who prefers speed converts first.
  [[nodiscard]] Status run(int layer, TensorView<const f16, 3> q, TensorView<const f16, 3> k,
                           TensorView<const f16, 3> v, TensorView<f16, 3> o,
                           TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                           Unspent& unspent) const;

 private:
  struct Wave;

  template <class T>
  Status check_views(int layer, const TensorView<const T, 3>& q, const TensorView<const T, 3>& k,
                     const TensorView<const T, 3>& v, const TensorView<T, 3>& o) const;
  template <class T>
  Status run_layer(int layer, TensorView<const T, 3> q, TensorView<const T, 3> k,
                   TensorView<const T, 3> v, TensorView<T, 3> o, TensorView<float, 2> lse,
                   void* workspace, std::span<HeadStats> stats, Unspent& unspent) const;
  void size_workspace();
  [[nodiscard]] size_t wave_kv_heads() const;
  [[nodiscard]] int64_t row_blocks_together(int64_t blocks, int64_t heads_per_kv) const;
  void run_wave(const Wave& wave, Unspent& unspent) const;
  template <class Counts, class Tiles>
  void apply_caps(const Wave& wave, int64_t blocks, const Counts& counts_of, const Tiles& tiles_of,
                  std::span<float> lambda, std::span<bool> again, Unspent& unspent) const;

  PlanShape shape_;
  const kernels::Backend* backend_ = nullptr;
  int threads_ = 1;
  std::vector<std::vector<HeadPlan>> layers_;
  std::vector<std::string> notes_;

  // Workspace: per head of a wave evidence, bitmap and counts; per thread estimates and scratch.
  int wave_heads_ = 1;
  size_t evidence_bytes_ = 0;
  size_t bitmap_bytes_ = 0;
  size_t counts_bytes_ = 0;
  size_t tiles_bytes_ = 0;
  size_t head_bytes_ = 0;
  size_t estimate_bytes_ = 0;
  size_t scratch_bytes_ = 0;
  size_t kernel_scratch_bytes_ = 0;
  size_t thread_bytes_ = 0;
  // bf16 and f16 only: K and V of a KV head packed, its keys as f32 when estimates read them, and a
  // thread's query rows as f32.
  size_t packed_bytes_ = 0;
  size_t wide_key_bytes_ = 0;
  size_t query_bytes_ = 0;
  size_t workspace_bytes_ = 0;
};

}  // namespace mi::runtime
