// The certificate: what a head-config does to the model on samples that calibration has not seen.
// A dense and a sparse forward pass of the same tokens, compared at the logits and in every layer.
// In f32 whatever the search ran in: between the dense passes of SmolLM2 in f32 and in bf16, KL is
// 1.6e-4 nats at 4096 tokens (same top token 99.3 %), a third of what sparsity does at 40 %. On a
// device, whose kernels know no f32, both passes are in bf16.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/search/head_pictures.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

struct SampleVerdict {
  int64_t length = 0;
  double share = 0;         // executed cost, mean over heads and layers
  double recall = 0;        // exp(lse_sparse - lse_dense), mean over rows, heads, layers
  double lost_square = 0;   // squared lost mass, mean alike
  double recall_min = 1;    // the worst head's mean
  double output_error = 0;  // mean over layers of ||(o - o~) W_O||^2 / ||residual||^2
  double kl = 0;            // KL(dense || sparse) of the next token, mean over positions, nats
  double top1 = 0;          // positions where both prefer the same token
  double dense_nll = 0;     // mean loss of the sample's own next tokens
  double sparse_nll = 0;
  int capped_heads = 0;  // heads whose share cap bound
  double seconds_dense = 0;
  double seconds_sparse = 0;       // without the dense attention that measures recall
  std::vector<std::string> notes;  // of the config's plan
};

struct DenseReference {
  Tensor<float, 2> hidden;  // final states
  double seconds = 0;
};

// The dense pass, separate so that several configs can be compared on one sample.
[[nodiscard]] Result<DenseReference> dense_reference(const Model& model, const Sample& sample,
                                                     const ComputeOptions& options,
                                                     const LayerProgressFn& progress);
// Draws `pictures`, if given, of the sparse pass.
[[nodiscard]] Result<SampleVerdict> verify_sample(const Model& model,
                                                  const runtime::HeadConfig& config,
                                                  const Sample& sample, const DenseReference& dense,
                                                  const ComputeOptions& options,
                                                  const LayerProgressFn& progress,
                                                  PictureTaker* pictures = nullptr);
// Mean over samples.
[[nodiscard]] runtime::HeldOut summarize(std::span<const SampleVerdict> verdicts);
struct Verified {
  std::vector<SampleVerdict> verdicts;
  std::optional<HeadPictures> pictures;  // of the first of the longest samples, where wanted
};
[[nodiscard]] Result<Verified> verify(const Model& model, const runtime::HeadConfig& config,
                                      std::span<const Sample> samples,
                                      const ComputeOptions& options, const ProgressFn& progress,
                                      bool pictures = false);

}  // namespace mi::search
