#include "libruntime/estimator.h"

#include <algorithm>
#include <limits>

#include "libruntime/patterns/patterns.h"
#include "libruntime/select.h"

namespace mi::runtime {

namespace {

template <class T>
void force(const EstimatorParams& params, const kernels::AttentionHead& head, int64_t block, T* e,
           T forced) {
  const KeyRange unforced = unforced_keys(params, head, block);
  std::fill(e, e + unforced.begin, forced);
  std::fill(e + unforced.end, e + head.keys_end(block), forced);
}

}  // namespace

KeyRange unforced_keys(const EstimatorParams& params, const kernels::AttentionHead& head,
                       int64_t block) {
  const int64_t end = head.keys_end(block);
  if (params.pattern == Pattern::dense ||
      head.first_row(block) + head.rows(block) > head.n_q - params.last)
    return {end, end};
  if (params.counts) return {0, end};
  const int64_t begin = std::min(params.sink, end);
  const int64_t first = head.first_row(block) + head.offset();  // the block's own first key
  return {begin, std::max(begin, first - params.local)};
}

void force_keys(const EstimatorParams& params, const kernels::AttentionHead& head, int64_t block,
                float* e) {
  force(params, head, block, e, std::numeric_limits<float>::infinity());
}
void force_keys(const EstimatorParams& params, const kernels::AttentionHead& head, int64_t block,
                uint8_t* code) {
  force(params, head, block, code, std::numeric_limits<uint8_t>::max());
}

void Estimator::select(const kernels::AttentionHead& head, const kernels::Backend& backend,
                       const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
                       const Selection& out) const {
  auto* bytes = reinterpret_cast<uint8_t*>(memory.estimates);
  if (head.packed != nullptr && backend.has_codes() && out.bins == nullptr && lambda > 0 &&
      codes(head, backend, memory, begin, end, lambda, bytes)) {
    for (int64_t m = begin; m < end; ++m) {
      uint8_t* code = bytes + (m - begin) * head.n_kv;
      const int64_t keys = head.keys_end(m);
      uint64_t* words = out.words + m * kernels::bitmap_words(head.n_kv);
      force_keys(params_, head, m, code);
      const int64_t selected = select_keys(backend, code, keys, words);
      if (out.raises != nullptr)
        count_raises(code, {words, static_cast<size_t>(kernels::bitmap_words(keys))},
                     out.raises + m * (kRaises + 1));
      out.tiles[m] = tiles_for(fill_tile(backend, code, keys, selected, words));
    }
    return;
  }
  rows(head, backend, memory, begin, end, memory.estimates, head.n_kv);
  for (int64_t m = begin; m < end; ++m) {
    const float* e = memory.estimates + (m - begin) * head.n_kv;
    const int64_t keys = head.keys_end(m);
    uint64_t* words = out.words + m * kernels::bitmap_words(head.n_kv);
    int64_t selected = select_keys(backend, e, keys, lambda, words);
    if (out.raises != nullptr)
      count_raises(e, lambda, {words, static_cast<size_t>(kernels::bitmap_words(keys))},
                   out.raises + m * (kRaises + 1));
    if (out.bins != nullptr) count_bins(e, keys, out.bins + m * kHistogramBins);
    if (!params_.counts) selected = fill_tile(backend, e, keys, selected, words);
    out.tiles[m] = tiles_for(selected);
  }
}

bool Estimator::codes(const kernels::AttentionHead& /*head*/, const kernels::Backend& /*backend*/,
                      const EstimatorMemory& /*memory*/, int64_t /*begin*/, int64_t /*end*/,
                      float /*lambda*/, uint8_t* /*code*/) const {
  return false;
}

void Estimator::rows(const kernels::AttentionHead& head, const kernels::Backend& backend,
                     const EstimatorMemory& memory, int64_t begin, int64_t end, float* e,
                     int64_t e_stride) const {
  estimate(head, backend, memory, begin, end, e, e_stride);
  for (int64_t m = begin; m < end; ++m) force_keys(params_, head, m, e + (m - begin) * e_stride);
}

std::unique_ptr<const Estimator> make_estimator(const EstimatorParams& params) {
  switch (params.pattern) {
    case Pattern::dense:
    case Pattern::a_shape:
      return patterns::make_static(params);
    case Pattern::vertical_slash:
      return patterns::make_vertical_slash(params);
    case Pattern::block_sparse:
      return params.estimate == BlockEstimate::pooled ? patterns::make_pooled_blocks(params)
                                                      : patterns::make_antidiagonal_blocks(params);
    case Pattern::stripe:
      return patterns::make_stripe(params);
    case Pattern::stripe_vertical_slash:
      return patterns::make_stripe_vertical_slash(params);
  }
  return nullptr;
}

std::vector<EstimatorParams> sources_of(const EstimatorParams& params) {
  EstimatorParams source = params;
  source.sink = source.local = source.last = 0;
  if (params.pattern != Pattern::stripe_vertical_slash) return {source};
  source.pattern = Pattern::stripe;
  std::vector<EstimatorParams> sources(2, source);
  sources[1].pattern = Pattern::vertical_slash;
  return sources;
}

void mean_queries(const kernels::AttentionHead& head, int64_t begin, int64_t end, float* out) {
  for (int64_t m = begin; m < end; ++m) {
    float* mean = out + (m - begin) * head.head_dim;
    std::fill(mean, mean + head.head_dim, 0.0f);
    const int64_t first = head.first_row(m);
    for (int r = 0; r < head.rows(m); ++r) {
      if (head.q_bf16 != nullptr) {
        const bf16* q = head.q_bf16 + (first + r - head.q_first) * head.q_bf16_stride;
        for (int k = 0; k < head.head_dim; ++k) mean[k] += to_float(q[k]);
      } else {
        const float* q = head.query(first + r);
        for (int k = 0; k < head.head_dim; ++k) mean[k] += q[k];
      }
    }
    const float inverse = 1.0f / static_cast<float>(head.rows(m));
    for (int k = 0; k < head.head_dim; ++k) mean[k] *= inverse;
  }
}

void key_probabilities(const kernels::AttentionHead& head, const kernels::Backend& backend,
                       kernels::ProbabilityRows rows, void* scratch) {
  if (head.packed != nullptr) {
    backend.packed_probabilities(rows, head.packed, head.n_kv, scratch);
    return;
  }
  rows.k = head.k;
  rows.k_stride = head.k_stride;
  backend.probabilities(rows, scratch);
}

}  // namespace mi::runtime
