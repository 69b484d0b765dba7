// Attention of a model's layers through the runtime: what scoring and verification run, dense or
// by a head-config, so that what is judged is what an engine executes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libruntime/plan.h"
#include "libsearch/model/model.h"
#include "libsearch/model/window_attention.h"

namespace mi::search {

struct ComputeOptions;

// Of a layer in chunks; the weight is the chunk's part of all chunks' dense tiles.
void add(const runtime::HeadStats& chunk, double weight, runtime::HeadStats& sum);

// Plans with their workspace and log-sum-exp, for calls of one length: `tokens` queries, the last
// of `keys` keys (0: as many), in chunks of options.chunk where that is not 0. A layer in chunks is
// what a chunked prefill computes: each chunk of queries over the keys so far.
class PlannedAttention {
 public:
  [[nodiscard]] static Result<PlannedAttention> make(
      const runtime::HeadConfig& config, int64_t tokens, const ComputeOptions& options,
      runtime::Element element = runtime::Element::f32, int64_t keys = 0);
  // Layers in turn: layer 0 begins a forward pass. T is the element's type. A layer with a window
  // has no part in the config: it is run as it is, and leaves neither stats nor lse.
  template <class T>
  [[nodiscard]] Status run(const BasicLayerQkv<T>& layer, TensorView<T, 3> o) {
    for (runtime::HeadStats& head : stats_) head = {};
    if (layer.window > 0) {
      window_attention(layer, scale_, softcap_, threads_, o);
      return {};
    }
    for (Chunk& chunk : chunks_) {
      if (layer.layer == 0) chunk.unspent = {};
      const int64_t begin = chunk.begin;
      const int64_t end = begin + chunk.rows;
      MI_CHECK(chunk.plan.run(
          layer.layer, rows_of(layer.q, begin, end), rows_of(layer.k, 0, earlier_ + end),
          rows_of(layer.v, 0, earlier_ + end), rows_of(o, begin, end),
          {lse_.data() + begin, {lse_.extent(0), chunk.rows}, lse_.view().stride},
          workspace_.data(), chunk_stats_, chunk.unspent));
      for (size_t h = 0; h < stats_.size(); ++h) add(chunk_stats_[h], chunk.weight, stats_[h]);
    }
    return {};
  }
  [[nodiscard]] TensorView<const float, 2> lse() const { return lse_.view(); }  // of the last run
  [[nodiscard]] const std::vector<runtime::HeadStats>& stats() const { return stats_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Chunk {
    runtime::Plan plan;
    int64_t begin = 0;  // queries
    int64_t rows = 0;
    double weight = 1;  // of all chunks' dense tiles
    runtime::Unspent unspent;
  };
  PlannedAttention(const runtime::HeadConfig::Model& model, int64_t tokens, int64_t keys,
                   int threads)
      : earlier_(keys - tokens),
        scale_(runtime::attention_scale(model.scale, model.head_dim)),
        softcap_(model.softcap),
        threads_(threads),
        lse_({model.heads, tokens}),
        stats_(static_cast<size_t>(model.heads)),
        chunk_stats_(stats_) {}
  template <class T>
  static TensorView<T, 3> rows_of(TensorView<T, 3> view, int64_t begin, int64_t end) {
    view.data += begin * view.stride[1];
    view.extent[1] = end - begin;
    return view;
  }
  int64_t earlier_;  // keys before the first query
  double scale_, softcap_;
  int threads_;
  std::vector<Chunk> chunks_;
  AlignedBuffer<char> workspace_;
  Tensor<float, 2> lse_;
  std::vector<runtime::HeadStats> stats_, chunk_stats_;
  std::vector<std::string> notes_;
};

// The config that runs every head of the model dense.
[[nodiscard]] runtime::HeadConfig dense_config(const ModelSpec& spec);
[[nodiscard]] runtime::HeadConfig::Model config_model(const ModelSpec& spec);
// Whether a head-config was made for this model: shape and fingerprint. `file` is named if not.
[[nodiscard]] Status check_config_model(const runtime::HeadConfig& config, const ModelSpec& spec,
                                        std::string_view file);

}  // namespace mi::search
