// The forward pass of a decoder-only model, one layer's weights at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/status.h"
#include "libsearch/model/families/family.h"
#include "libsearch/model/model.h"

namespace mi::search {

template <class T>
struct DecoderShapes;

class Decoder {
 public:
  // spec and the tensors, to which weights points, must outlive it. Creates oneDNN primitives.
  Decoder(const ModelSpec& spec, const TensorTable& tensors, DecoderWeights weights,
          std::string file);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // As Model's; may throw std::bad_alloc and dnnl::error.
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const AttentionFn& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const;
  [[nodiscard]] Result<Tensor<float, 2>> forward(std::span<const int32_t> ids,
                                                 const BasicAttentionFn<bf16>& attention,
                                                 const LayerProgressFn& progress,
                                                 int64_t position) const;
  [[nodiscard]] Status logits(TensorView<const float, 2> hidden, TensorView<float, 2> out) const;

  // For passes that run elsewhere. Whether these tokens may be run.
  [[nodiscard]] Status check(std::span<const int32_t> ids, int64_t position) const;
  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] const DecoderWeights& weights() const { return weights_; }
  [[nodiscard]] const std::string& file() const { return file_; }
  // A layer's large tensors are wanted soon, or no more.
  void will_need(int layer) const;
  void release(int layer) const;

 private:
  template <class T>
  [[nodiscard]] Result<Tensor<float, 2>> run(const DecoderShapes<T>& shapes,
                                             std::span<const int32_t> ids,
                                             const BasicAttentionFn<T>& attention,
                                             const LayerProgressFn& progress,
                                             int64_t position) const;
  const ModelSpec& spec_;
  const TensorTable& tensors_;
  DecoderWeights weights_;
  std::string file_;
  struct Primitives;
  std::unique_ptr<const Primitives> primitives_;
};

}  // namespace mi::search
