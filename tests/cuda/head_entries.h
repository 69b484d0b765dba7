// Heads of configs, put down in short; a share of 0 is none.
#pragma once

#include "libruntime/config.h"
#include "libruntime/plan_heads.h"

namespace mi::test::cuda {
using runtime::Element;
using runtime::HeadEntry;
using runtime::Pattern;
using runtime::PlanShape;

inline HeadEntry head_of(Pattern pattern, int64_t sink) {
  HeadEntry entry;
  entry.pattern = pattern;
  entry.sink = sink;
  return entry;
}
inline HeadEntry stripe(double density, double share = 0, int64_t sink = 4, double local = 32) {
  HeadEntry entry = head_of(Pattern::stripe, sink);
  entry.local[0] = local;
  entry.density[0] = density;
  if (share > 0) entry.share[0] = share;
  return entry;
}
inline HeadEntry vertical(Pattern pattern, double density, double share = 0) {
  HeadEntry entry = stripe(density, share);
  entry.pattern = pattern;
  return entry;
}
inline HeadEntry blocks(int stride, double density, double share = 0) {  // stride 0: pooled
  HeadEntry entry = stripe(density, share);
  entry.pattern = Pattern::block_sparse;
  entry.estimate =
      stride == 0 ? runtime::BlockEstimate::pooled : runtime::BlockEstimate::antidiagonal;
  entry.stride = stride == 0 ? 16 : stride;
  return entry;
}
inline HeadEntry a_shape(double window, double share = 0) {
  HeadEntry entry = head_of(Pattern::a_shape, 4);
  entry.local[0] = window;
  if (share > 0) entry.share[0] = share;
  return entry;
}

// `entry` with no threshold, or none that is trusted: a window of another length.
inline HeadEntry spending(HeadEntry entry, double share) {
  entry.share = {{100, share}};
  entry.density.clear();
  return entry;
}

inline PlanShape shape_of(int64_t n_q, int64_t n_kv, int heads, int kv_heads, int head_dim,
                          Element element) {
  return {.n_q = n_q,
          .n_kv = n_kv,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .element = element};
}

}  // namespace mi::test::cuda
