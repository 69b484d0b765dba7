// Sparse attention as the formulas say it, N x N in double precision and without any of the code
// under test: estimates, selections, attention, recall. Shared by the numerical tests.
//
// An estimate computed in floats cannot say on which side of a threshold a key falls that lies
// within rounding of it, nor which of two equal scores ranks first. So every estimate here carries
// an interval [lo, hi], and a test can ask whether a selection is certain.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "libruntime/estimator.h"

namespace mi::test::naive {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr int64_t kBlock = 64;
// Floats of the estimators against doubles: errors of the scores (a few 1e-7) come back as
// relative errors of their exponentials.
inline constexpr double kRelative = 1e-5;

class Grid {
 public:
  Grid() = default;
  Grid(int64_t rows, int64_t cols, double value = 0)
      : rows_(rows), cols_(cols), data_(static_cast<size_t>(rows * cols), value) {}
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  double& operator()(int64_t r, int64_t c) { return data_[static_cast<size_t>(r * cols_ + c)]; }
  double operator()(int64_t r, int64_t c) const {
    return data_[static_cast<size_t>(r * cols_ + c)];
  }

 private:
  int64_t rows_ = 0, cols_ = 0;
  std::vector<double> data_;
};

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// One head's dense attention.
struct Dense {
  int64_t n_q = 0, n_kv = 0, c = 0;
  Grid p;                   // causal row softmax
  std::vector<double> lse;  // [n_q]
  [[nodiscard]] int64_t blocks() const { return ceil_div(n_q, kBlock); }
  [[nodiscard]] int64_t row_end(int64_t m) const { return std::min(n_q, (m + 1) * kBlock); }
  [[nodiscard]] int64_t keys_end(int64_t m) const { return row_end(m) + c; }
};

inline double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

inline double cap(double s, double softcap) {
  return softcap > 0 ? softcap * std::tanh(s / softcap) : s;
}

inline void softmax(double* x, int64_t count, double* lse = nullptr) {
  double top = -kInf, sum = 0;
  for (int64_t i = 0; i < count; ++i) top = std::max(top, x[i]);
  for (int64_t i = 0; i < count; ++i) sum += std::exp(x[i] - top);
  for (int64_t i = 0; i < count; ++i) x[i] = std::exp(x[i] - top) / sum;
  if (lse != nullptr) *lse = top + std::log(sum);
}

inline Dense dense(const kernels::AttentionHead& head) {
  Dense result;
  result.n_q = head.n_q;
  result.n_kv = head.n_kv;
  result.c = head.n_kv - head.n_q;
  result.p = Grid(head.n_q, head.n_kv);
  result.lse.resize(static_cast<size_t>(head.n_q));
  for (int64_t i = 0; i < head.n_q; ++i) {
    for (int64_t j = 0; j <= i + result.c; ++j)
      result.p(i, j) =
          cap(static_cast<double>(head.scale) *
                  dot(head.q + i * head.q_stride, head.k + j * head.k_stride, head.head_dim),
              static_cast<double>(head.softcap));
    softmax(&result.p(i, 0), i + result.c + 1, &result.lse[static_cast<size_t>(i)]);
  }
  return result;
}

// e_m[j] for every row block and visible key; lo <= e <= hi covers the rounding of floats.
struct Estimates {
  Grid e, lo, hi;  // [blocks, n_kv]
  void set(int64_t m, int64_t j, double value) { set(m, j, value, value, value); }
  void set(int64_t m, int64_t j, double value, double low, double high) {
    e(m, j) = value;
    lo(m, j) = low;
    hi(m, j) = high;
  }
};

// Ranks by falling score, the first `forced` indices ahead of all; with the lowest and highest
// rank that scores equal within rounding could take.
struct Ranks {
  std::vector<double> rank, lo, hi;
};
inline Ranks ranks(const std::vector<double>& score, int64_t forced) {
  const auto n = static_cast<int64_t>(score.size());
  Ranks r{std::vector<double>(score.size()), std::vector<double>(score.size()),
          std::vector<double>(score.size())};
  std::vector<double> falling;
  for (int64_t i = forced; i < n; ++i) falling.push_back(-score[static_cast<size_t>(i)]);
  std::sort(falling.begin(), falling.end());
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (i < forced) {
      r.rank[at] = r.lo[at] = r.hi[at] = static_cast<double>(i);
      continue;
    }
    const auto above = [&](double x) {  // scores larger than x
      return static_cast<double>(
          forced + (std::lower_bound(falling.begin(), falling.end(), -x) - falling.begin()));
    };
    const double s = score[at];
    const auto not_below = [&](double x) {  // scores at least x
      return static_cast<double>(
          forced + (std::upper_bound(falling.begin(), falling.end(), -x) - falling.begin()));
    };
    r.rank[at] = above(s);
    r.lo[at] = above(s * (1 + kRelative));
    r.hi[at] = not_below(s * (1 - kRelative)) - 1;
  }
  return r;
}

inline void add_vertical_slash(const Dense& a, const runtime::EstimatorParams& params,
                               Estimates& out) {
  const int64_t rows = std::min<int64_t>(64, a.n_q);
  const auto n = static_cast<size_t>(a.n_kv);
  std::vector<double> v(n, 0), s(n, 0);
  for (int64_t i = a.n_q - rows; i < a.n_q; ++i)
    for (int64_t j = 0; j <= i + a.c; ++j) {
      v[static_cast<size_t>(j)] += a.p(i, j);
      s[static_cast<size_t>(i + a.c - j)] += a.p(i, j);
    }
  const auto l = static_cast<double>(rows);
  Ranks columns, slashes;
  if (params.counts) {
    columns = ranks(v, std::min<int64_t>(30, a.n_kv));
    slashes = ranks(s, std::min<int64_t>(100, a.n_kv));
  }
  for (int64_t m = 0; m < a.blocks(); ++m) {
    const int64_t first = m * kBlock + a.c;
    for (int64_t j = 0; j < a.keys_end(m); ++j) {
      const auto at = static_cast<size_t>(j);
      if (j >= first) {
        out.set(m, j, kInf);
        continue;
      }
      if (params.counts) {
        double e[3] = {};
        const std::vector<double>* column[3] = {&columns.rank, &columns.hi, &columns.lo};
        const std::vector<double>* slash[3] = {&slashes.rank, &slashes.hi, &slashes.lo};
        for (int x = 0; x < 3; ++x) {
          e[x] = params.vertical / ((*column[x])[at] + 0.5);
          for (int64_t r = 0; r < kBlock; ++r)
            if (first - j + r < a.n_kv)
              e[x] = std::max(
                  e[x], params.slash / ((*slash[x])[static_cast<size_t>(first - j + r)] + 0.5));
        }
        out.set(m, j, e[0], e[1], e[2]);
        continue;
      }
      double e = v[at] * 64 / l;
      for (int64_t r = 0; r < kBlock; ++r)
        if (first - j + r < a.n_kv) e += s[static_cast<size_t>(first - j + r)] / l;
      out.set(m, j, e, e * (1 - kRelative), e * (1 + kRelative));
    }
  }
}

inline std::vector<double> mean_query(const kernels::AttentionHead& head, int64_t m) {
  std::vector<double> mean(static_cast<size_t>(head.head_dim), 0);
  const int64_t end = std::min(head.n_q, (m + 1) * kBlock);
  for (int64_t i = m * kBlock; i < end; ++i)
    for (int x = 0; x < head.head_dim; ++x)
      mean[static_cast<size_t>(x)] += static_cast<double>(head.q[i * head.q_stride + x]) /
                                      static_cast<double>(end - m * kBlock);
  return mean;
}

inline void add_stripe(const kernels::AttentionHead& head, const Dense& a, Estimates& out) {
  for (int64_t m = 0; m < a.blocks(); ++m) {
    const auto q = mean_query(head, m);
    std::vector<double> p;
    for (int64_t j = 0; j < a.keys_end(m); ++j) {
      double s = 0;
      for (int x = 0; x < head.head_dim; ++x)
        s += q[static_cast<size_t>(x)] * static_cast<double>(head.k[j * head.k_stride + x]);
      p.push_back(cap(static_cast<double>(head.scale) * s, static_cast<double>(head.softcap)));
    }
    softmax(p.data(), static_cast<int64_t>(p.size()));
    for (int64_t j = 0; j < a.keys_end(m); ++j) {
      const double e = 64 * p[static_cast<size_t>(j)];
      out.set(m, j, e, e * (1 - kRelative), e * (1 + kRelative));
    }
  }
}

inline void spread_blocks(const Dense& a, int64_t m, const std::vector<double>& share,
                          const runtime::EstimatorParams& params, Estimates& out) {
  Ranks order;
  if (params.counts) order = ranks(share, 0);
  for (int64_t j = 0; j < a.keys_end(m); ++j) {
    const auto b = static_cast<size_t>(j / kBlock);
    if (params.counts) {
      out.set(m, j, 1 / (order.rank[b] + 0.5), 1 / (order.hi[b] + 0.5), 1 / (order.lo[b] + 0.5));
    } else {
      out.set(m, j, share[b], share[b] * (1 - kRelative), share[b] * (1 + kRelative));
    }
  }
}

inline void add_pooled(const kernels::AttentionHead& head, const Dense& a,
                       const runtime::EstimatorParams& params, Estimates& out) {
  for (int64_t m = 0; m < a.blocks(); ++m) {
    const auto q = mean_query(head, m);
    std::vector<double> share;
    for (int64_t b = 0; b * kBlock < a.keys_end(m); ++b) {
      const int64_t end = std::min(a.n_kv, (b + 1) * kBlock);
      double s = 0;
      for (int64_t j = b * kBlock; j < end; ++j)
        for (int x = 0; x < head.head_dim; ++x)
          s += q[static_cast<size_t>(x)] * static_cast<double>(head.k[j * head.k_stride + x]) /
               static_cast<double>(end - b * kBlock);
      share.push_back(cap(static_cast<double>(head.scale) * s, static_cast<double>(head.softcap)));
    }
    softmax(share.data(), static_cast<int64_t>(share.size()));
    spread_blocks(a, m, share, params, out);
  }
}

inline void add_antidiagonal(const kernels::AttentionHead& head, const Dense& a,
                             const runtime::EstimatorParams& params, Estimates& out) {
  const int64_t stride = params.stride;
  for (int64_t m = 0; m < a.blocks(); ++m) {
    std::vector<double> share(static_cast<size_t>(ceil_div(a.keys_end(m), kBlock)), 0);
    const int64_t groups = ceil_div(a.row_end(m) - m * kBlock, stride);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t row = m * kBlock + g * stride;
      std::vector<double> p;
      for (int64_t b = 0; b * stride <= row + a.c; ++b) {
        double s = 0;
        for (int64_t i = 0; i < stride; ++i) {
          const int64_t qi = row + stride - 1 - i;
          const int64_t kj = b * stride + i;
          if (qi < a.n_q && kj < a.n_kv)
            s += dot(head.q + qi * head.q_stride, head.k + kj * head.k_stride, head.head_dim);
        }
        p.push_back(cap(static_cast<double>(head.scale) * s / static_cast<double>(stride),
                        static_cast<double>(head.softcap)));
      }
      softmax(p.data(), static_cast<int64_t>(p.size()));
      for (size_t b = 0; b < p.size(); ++b)
        share[b * static_cast<size_t>(stride) / kBlock] += p[b] / static_cast<double>(groups);
    }
    spread_blocks(a, m, share, params, out);
  }
}

// Before anything is forced.
inline Estimates raw_estimates(const kernels::AttentionHead& head, const Dense& a,
                               const runtime::EstimatorParams& params) {
  using runtime::Pattern;
  const Grid zero(a.blocks(), a.n_kv);
  Estimates out{zero, zero, zero};
  switch (params.pattern) {
    case Pattern::dense:
      break;
    case Pattern::a_shape:
      for (int64_t m = 0; m < a.blocks(); ++m)
        for (int64_t j = 0; j < a.keys_end(m); ++j) {
          const int64_t distance = std::max<int64_t>(0, m * kBlock + a.c - j);
          out.set(m, j, 1 / (static_cast<double>(distance) + 0.5));
        }
      break;
    case Pattern::vertical_slash:
      add_vertical_slash(a, params, out);
      break;
    case Pattern::block_sparse:
      if (params.estimate == runtime::BlockEstimate::pooled) {
        add_pooled(head, a, params, out);
      } else {
        add_antidiagonal(head, a, params, out);
      }
      break;
    case Pattern::stripe:
      add_stripe(head, a, out);
      break;
    case Pattern::stripe_vertical_slash: {
      add_stripe(head, a, out);
      Estimates other{zero, zero, zero};
      add_vertical_slash(a, params, other);
      for (int64_t m = 0; m < a.blocks(); ++m)
        for (int64_t j = 0; j < a.keys_end(m); ++j)
          out.set(m, j, std::max(out.e(m, j), other.e(m, j)),
                  std::max(out.lo(m, j), other.lo(m, j)), std::max(out.hi(m, j), other.hi(m, j)));
      break;
    }
  }
  return out;
}

// Key j must be attended by block m whatever the estimate says.
inline bool is_forced(const Dense& a, const runtime::EstimatorParams& params, int64_t m,
                      int64_t j) {
  if (params.pattern == runtime::Pattern::dense) return true;
  for (int64_t i = m * kBlock; i < a.row_end(m); ++i)
    if (i >= a.n_q - params.last) return true;
  if (params.counts) return false;
  const int64_t first = m * kBlock + a.c;
  return j < params.sink || j >= first - params.local;
}

inline Estimates estimates(const kernels::AttentionHead& head, const Dense& a,
                           const runtime::EstimatorParams& params) {
  Estimates out = raw_estimates(head, a, params);
  for (int64_t m = 0; m < a.blocks(); ++m)
    for (int64_t j = 0; j < a.keys_end(m); ++j)
      if (is_forced(a, params, m, j)) out.set(m, j, kInf);
  return out;
}

// selected[m][j] for keys below keys_end(m).
using Selection = std::vector<std::vector<char>>;

// The selected keys are between `low` and `high`: where these are equal, rounding has no say.
struct Selected {
  Selection low, high;
  [[nodiscard]] bool certain() const { return low == high; }
};

// One row block: the keys above lambda and, unless the form has counts, the best others until the
// last tile is full, equal ones by index.
inline void select_block(const Estimates& estimates, int64_t m, int64_t keys, double lambda,
                         bool fill, std::vector<char>& low, std::vector<char>& high) {
  low.assign(static_cast<size_t>(keys), 0);
  high = low;
  for (int64_t j = 0; j < keys; ++j) {
    low[static_cast<size_t>(j)] = estimates.lo(m, j) > lambda ? 1 : 0;
    high[static_cast<size_t>(j)] = estimates.hi(m, j) > lambda ? 1 : 0;
  }
  if (!fill) return;
  std::vector<int64_t> order(static_cast<size_t>(keys));
  for (int64_t j = 0; j < keys; ++j) order[static_cast<size_t>(j)] = j;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return estimates.e(m, a) > estimates.e(m, b); });
  const auto widen = [&](std::vector<char>& row, bool possible) {
    const auto count = std::count(row.begin(), row.end(), char{1});
    const auto room = static_cast<size_t>(std::min(keys, (count + kBlock - 1) / kBlock * kBlock));
    if (room == 0) return;
    const double last = estimates.e(m, order[room - 1]);
    // Exact ties with the last one that fits are decided by their index.
    double inside = kInf, inside_tied = kInf, outside = -kInf, outside_tied = -kInf;
    for (size_t r = 0; r < order.size(); ++r) {
      const int64_t j = order[r];
      const bool tied = estimates.e(m, j) == last;
      if (r < room) {
        if (!tied) inside = std::min(inside, estimates.lo(m, j));
        inside_tied = std::min(inside_tied, estimates.lo(m, j));
      } else {
        if (!tied) outside = std::max(outside, estimates.hi(m, j));
        outside_tied = std::max(outside_tied, estimates.hi(m, j));
      }
    }
    for (size_t r = 0; r < order.size(); ++r) {
      const int64_t j = order[r];
      const bool tied = estimates.e(m, j) == last;
      const bool in = r < room ? possible || estimates.lo(m, j) > (tied ? outside : outside_tied)
                               : possible && estimates.hi(m, j) >= (tied ? inside : inside_tied);
      if (in) row[static_cast<size_t>(j)] = 1;
    }
  };
  widen(low, false);
  widen(high, true);
}

inline Selected select(const Dense& a, const Estimates& estimates, double lambda, bool fill) {
  Selected selected;
  for (int64_t m = 0; m < a.blocks(); ++m)
    select_block(estimates, m, a.keys_end(m), lambda, fill, selected.low.emplace_back(),
                 selected.high.emplace_back());
  return selected;
}

inline int64_t tiles(const Selection& selection) {
  int64_t total = 0;
  for (const auto& row : selection)
    total += ceil_div(std::count(row.begin(), row.end(), char{1}), kBlock);
  return total;
}

// Recall of every row under a selection.
inline std::vector<double> recall(const Dense& a, const Selection& selection) {
  std::vector<double> kept(static_cast<size_t>(a.n_q), 0);
  for (int64_t i = 0; i < a.n_q; ++i)
    for (int64_t j = 0; j <= i + a.c; ++j)
      if (selection[static_cast<size_t>(i / kBlock)][static_cast<size_t>(j)] != 0)
        kept[static_cast<size_t>(i)] += a.p(i, j);
  return kept;
}

// Attention over a selection; a row without keys gives 0 and -inf.
struct Output {
  Grid o;                   // [n_q, head_dim]
  std::vector<double> lse;  // [n_q]
};
inline Output attend(const kernels::AttentionHead& head, const Dense& a,
                     const Selection& selection) {
  Output out{Grid(a.n_q, head.head_dim), std::vector<double>(static_cast<size_t>(a.n_q), -kInf)};
  const auto kept = recall(a, selection);
  for (int64_t i = 0; i < a.n_q; ++i) {
    const auto at = static_cast<size_t>(i);
    if (kept[at] == 0) continue;
    out.lse[at] = a.lse[at] + std::log(kept[at]);
    for (int64_t j = 0; j <= i + a.c; ++j) {
      if (selection[static_cast<size_t>(i / kBlock)][static_cast<size_t>(j)] == 0) continue;
      const double weight = a.p(i, j) / kept[at];
      for (int x = 0; x < head.head_dim; ++x)
        out.o(i, x) += weight * static_cast<double>(head.v[j * head.v_stride + x]);
    }
  }
  return out;
}

// A threshold near the value that keeps `fraction` of the keys that are not forced, in the middle
// of the widest gap between neighbouring estimates there: what it selects is certain.
inline double clear_threshold(const Dense& a, const Estimates& estimates, double fraction) {
  std::vector<double> values;
  for (int64_t m = 0; m < a.blocks(); ++m)
    for (int64_t j = 0; j < a.keys_end(m); ++j)
      if (std::isfinite(estimates.e(m, j)) && estimates.e(m, j) > 0)
        values.push_back(estimates.e(m, j));
  if (values.empty()) return 0.1;
  std::sort(values.begin(), values.end());
  const auto last = static_cast<int64_t>(values.size()) - 1;
  const auto target = static_cast<int64_t>(static_cast<double>(last) * (1 - fraction));
  double best = values[0] / 2, widest = 1;
  for (int64_t i = std::max<int64_t>(0, target - 20); i < std::min(last, target + 20); ++i) {
    const double low = values[static_cast<size_t>(i)];
    const double ratio = values[static_cast<size_t>(i + 1)] / low;
    if (ratio <= widest) continue;
    widest = ratio;
    best = low * std::sqrt(ratio);
  }
  return best;
}

}  // namespace mi::test::naive
