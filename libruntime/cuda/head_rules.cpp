#include "libruntime/cuda/head_rules.h"

#include <algorithm>

#include <fmt/format.h>

#include "libruntime/patterns/patterns.h"
#include "libruntime/select.h"

namespace mi::runtime {
namespace {

using kernels::cuda::HeadRule;
using kernels::cuda::KeyRule;

static_assert(kernels::cuda::kRaises == kRaises, "both plans raise alike");

// The threshold of a window that spends at most so many tiles, or what the forced keys cost if that
// is more: lambda_for_tiles, by distances in place of keys.
float window_to_spend(const EstimatorParams& params, const kernels::AttentionHead& head,
                      int64_t tiles) {
  const auto spent = [&](int lowest) {
    const int64_t reach = patterns::distances_above(lambda_of_bin(lowest), head.n_kv);
    int64_t sum = 0;
    for (int64_t m = 0; m < head.row_blocks(); ++m) {
      const KeyRange unforced = unforced_keys(params, head, m);
      const int64_t begin =
          std::clamp(head.first_row(m) + head.offset() - reach + 1, unforced.begin, unforced.end);
      sum += tiles_for(unforced.begin + head.keys_end(m) - begin);
    }
    return sum;
  };
  const int64_t affordable = std::max(tiles, spent(kHistogramBins - 1));
  int low = 0;
  int high = kHistogramBins - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (spent(middle) <= affordable) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return lambda_of_bin(low);
}

}  // namespace

bool has_stripes(const HeadPlan& head) {
  const Pattern pattern = head.resolved.params.pattern;
  return pattern == Pattern::stripe || pattern == Pattern::stripe_vertical_slash;
}
bool has_vertical(const HeadPlan& head) {
  const Pattern pattern = head.resolved.params.pattern;
  return pattern == Pattern::vertical_slash || pattern == Pattern::stripe_vertical_slash;
}

bool has_pooled(const HeadPlan& head) {
  const EstimatorParams& params = head.resolved.params;
  return params.pattern == Pattern::block_sparse && params.estimate == BlockEstimate::pooled;
}
bool has_antidiagonals(const HeadPlan& head, int stride) {
  const EstimatorParams& params = head.resolved.params;
  return params.pattern == Pattern::block_sparse &&
         params.estimate == BlockEstimate::antidiagonal && params.stride == stride;
}

bool spends_tiles(const HeadPlan& head) {
  return head.resolved.spend_share && head.resolved.params.pattern != Pattern::a_shape;
}

Status check_head(const HeadPlan& head, size_t layer, size_t h) {
  const EstimatorParams& params = head.resolved.params;
  if (!params.counts) return {};
  return fail(Code::unsupported,
              fmt::format("head {}.{}: {} by counts is not offered on a CUDA device", layer, h,
                          to_string(params.pattern)));
}

HeadStats stats_of(const HeadPlan& head, const kernels::cuda::HeadReport& report,
                   const PlanShape& shape) {
  const CallShape call{shape.n_q, shape.n_kv, shape.head_dim};
  HeadStats stats;
  stats.tiles = report.tiles;
  stats.capped = report.raise > 0;
  stats.estimate_flops = head.estimator->flops(call);
  if (spends_tiles(head) || stats.capped) stats.estimate_flops += head.estimator->rows_flops(call);
  stats.share = cost_share(call, stats.tiles, stats.estimate_flops);
  return stats;
}

HeadRule rule_of(const HeadPlan& head, const PlanShape& shape) {
  const int64_t n_kv = shape.n_kv;
  const EstimatorParams& params = head.resolved.params;
  HeadRule rule;
  if (params.pattern == Pattern::dense) return rule;
  const auto tokens = [&](int64_t x) { return static_cast<int32_t>(std::min(x, n_kv)); };
  rule.sink = tokens(params.sink);
  rule.local = tokens(params.local);
  rule.last = tokens(params.last);
  const bool spends = head.resolved.spend_share;
  const auto tiles = static_cast<int64_t>(std::max(0.0, head.tile_cap.value_or(0)));
  rule.shares_cap = head.tile_cap && !spends ? 1 : 0;
  if (rule.shares_cap != 0)
    rule.second_look = head.estimator->rows_flops({shape.n_q, shape.n_kv, shape.head_dim}) /
                       tile_flops(shape.head_dim);
  rule.density = head.resolved.lambda;
  rule.joins = params.pattern == Pattern::stripe_vertical_slash ? 1 : 0;
  rule.rule = params.pattern == Pattern::a_shape ? KeyRule::window : KeyRule::codes;
  if (rule.rule == KeyRule::window) {
    kernels::AttentionHead all;
    all.n_q = shape.n_q;
    all.n_kv = n_kv;
    const float lambda = spends ? window_to_spend(params, all, tiles) : head.resolved.lambda;
    for (int i = 0; i <= kRaises; ++i)
      rule.reach[i] = tokens(patterns::distances_above(raised(lambda, i), n_kv));
  } else if (spends) {
    rule.spend_tiles = static_cast<int32_t>(std::min<int64_t>(tiles, INT32_MAX));
  }
  return rule;
}

}  // namespace mi::runtime
