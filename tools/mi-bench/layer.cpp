#include "tools/mi-bench/layer.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "libruntime/resolve.h"
#include "tools/mi-bench/commands.h"

namespace mi::tools {

using kernels::kRowBlock;
using runtime::kEstimateGroup;

LayerTensors::LayerTensors(int64_t queries, int64_t keys, int dim, uint64_t seed)
    : n_q(queries),
      n_kv(keys),
      head_dim(dim),
      q({kHeads, n_q, dim}),
      k({kKvHeads, n_kv, dim}),
      v({kKvHeads, n_kv, dim}),
      o({kHeads, n_q, dim}) {
  fill_random(q, seed);
  fill_random(k, seed + 1);
  fill_random(v, seed + 2);
  for (bf16& x : q.span()) x = to_bf16(4 * to_float(x));
}

Result<LayerPlan> LayerPlan::make(const LayerTensors& layer, const runtime::HeadEntry& entry,
                                  const kernels::Backend& backend, int threads,
                                  int64_t dense_below) {
  runtime::HeadConfig config = one_layer(kHeads, kKvHeads, layer.head_dim, entry);
  config.kernel.dense_below = dense_below;
  MI_TRY(auto plan, runtime::Plan::make(config,
                                        {.n_q = layer.n_q,
                                         .n_kv = layer.n_kv,
                                         .heads = kHeads,
                                         .kv_heads = kKvHeads,
                                         .head_dim = layer.head_dim,
                                         .element = runtime::Element::bf16},
                                        backend, threads));
  return LayerPlan(std::move(plan), entry);
}

Result<LayerPlan> LayerPlan::with_share(LayerTensors& layer, runtime::HeadEntry entry, double share,
                                        const kernels::Backend& backend, int threads) {
  double low = -16;  // log2 of the density
  double high = 6;
  for (int i = 0;; ++i) {
    entry.density[0] = std::exp2((low + high) / 2);
    MI_TRY(LayerPlan plan, make(layer, entry, backend, threads));
    MI_CHECK(plan.run(layer));
    if (i == 16 || std::abs(plan.share() - share) < 0.01 * share) return plan;
    (plan.share() > share ? low : high) = (low + high) / 2;
  }
}

Status LayerPlan::run(LayerTensors& layer) {
  runtime::Unspent unspent;
  return plan_.run(0, std::as_const(layer.q).view(), std::as_const(layer.k).view(),
                   std::as_const(layer.v).view(), layer.o.view(), {}, workspace_.data(), stats_,
                   unspent);
}

int64_t LayerPlan::tiles() const {
  int64_t total = 0;
  for (const auto& head : stats_) total += head.tiles;
  return total;
}
double LayerPlan::share() const {
  double total = 0;
  for (const auto& head : stats_) total += head.share;
  return total / kHeads;
}

LayerEstimate::LayerEstimate(const LayerTensors& layer, const runtime::HeadEntry& entry,
                             const kernels::Backend& backend, int threads)
    : backend_(backend), threads_(threads), call_{layer.n_q, layer.n_kv, layer.head_dim} {
  const auto resolved = runtime::resolve_head(entry, {}, layer.n_kv);
  lambda_ = resolved->lambda;
  estimator_ = runtime::make_estimator(resolved->params);
  const auto of_threads = static_cast<size_t>(threads);
  const auto keys = static_cast<size_t>(layer.n_kv);
  const auto blocks = static_cast<size_t>(call_.row_blocks());
  const auto dim = static_cast<size_t>(layer.head_dim);
  const auto group = std::min<size_t>(blocks, kEstimateGroup);
  const size_t packed_bytes = backend.packed_bytes(layer.head_dim, layer.n_kv);
  packed_.resize(kKvHeads * packed_bytes);
  if (estimator_->reads_keys()) wide_keys_.resize(kKvHeads * keys * dim);
  runtime::CallHeads<bf16> call;
  call.backend = &backend;
  call.q = layer.q.view();
  call.k = layer.k.view();
  call.v = layer.v.view();
  call.count = kHeads;
  call.heads_per_kv = kHeads / kKvHeads;
  call.scale = 1 / std::sqrt(static_cast<float>(layer.head_dim));
  input_ = std::make_unique<runtime::PackedInput<bf16>>(call, packed_.data(), packed_bytes,
                                                        wide_keys_.data());
  evidence_.resize(kHeads * estimator_->evidence_floats(call_));
  words_.resize(kHeads * blocks * static_cast<size_t>(kernels::bitmap_words(layer.n_kv)));
  tiles_.resize(kHeads * blocks);
  // Kernels store whole cache lines: every thread's part begins at one.
  const auto of_each = [&](auto& buffer, size_t count) {
    constexpr size_t kLine = 64 / sizeof(*buffer.data());
    buffer.resize(of_threads * ((count + kLine - 1) / kLine * kLine));
  };
  of_each(scratch_, estimator_->scratch_floats(call_));
  of_each(estimates_, group * keys);
  of_each(queries_, group * kRowBlock * dim);
  const int wide = std::max(layer.head_dim, estimator_->probability_dim(call_));
  of_each(kernel_scratch_,
          std::max({backend.packed_scratch_bytes(layer.head_dim, layer.n_kv),
                    backend.packed_scratch_bytes(wide, kRowBlock), backend.scratch_bytes(wide)}));
}

void LayerEstimate::pack() {
#pragma omp parallel for num_threads(threads_) schedule(static)
  for (int64_t unit = 0; unit < input_->prepare_units(); ++unit) input_->prepare(unit);
}

void LayerEstimate::estimate() {
  const int64_t blocks = call_.row_blocks();
  const int64_t groups = (blocks + kEstimateGroup - 1) / kEstimateGroup;
#pragma omp parallel num_threads(threads_)
  {
    const auto own = [&](auto& buffer) {
      return buffer.data() + buffer.size() / static_cast<size_t>(threads_) *
                                 static_cast<size_t>(omp_get_thread_num());
    };
    runtime::EstimatorMemory memory{.scratch = own(scratch_),
                                    .kernel_scratch = own(kernel_scratch_),
                                    .estimates = own(estimates_)};
    const auto head_with = [&](int64_t h, int64_t begin, int64_t end, bool wide) {
      memory.evidence = evidence_.data() + static_cast<size_t>(h) * (evidence_.size() / kHeads);
      return input_->head(static_cast<int>(h), begin, end, wide, own(queries_));
    };
#pragma omp for schedule(dynamic)
    for (int64_t h = 0; h < kHeads; ++h)
      estimator_->prepare(head_with(h, std::max<int64_t>(0, call_.n_q - 64), call_.n_q, true),
                          backend_, memory);
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < kHeads * groups; ++unit) {
      const int64_t h = unit / groups;
      const int64_t begin = (unit % groups) * kEstimateGroup;
      const int64_t end = std::min(blocks, begin + kEstimateGroup);
      const auto head = head_with(h, begin * kRowBlock, std::min(call_.n_q, end * kRowBlock),
                                  estimator_->reads_queries());
      const int64_t words = kernels::bitmap_words(call_.n_kv);
      estimator_->select(
          head, backend_, memory, begin, end, lambda_,
          {.words = words_.data() + h * blocks * words, .tiles = tiles_.data() + h * blocks});
    }
  }
}

}  // namespace mi::tools
