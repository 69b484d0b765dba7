// What attention on 16-bit elements may lose. An ideal computation takes exact scores, rounds each
// 2^(s - top) and the output to the element, and is else exact; a kernel may be twice as wrong (the
// largest error of a row block, and as in f32 4 ulp of the largest score).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/half.h"

namespace mi::test {

struct Ideal {
  std::vector<double> o;    // [rows, dim] exact
  std::vector<double> lse;  // [rows] exact
  double error = 0;         // largest of the ideal computation
  double largest_score = 0;
};

template <class T>
double rounded_to(double x) {
  return static_cast<double>(to_float(narrowed<T>(static_cast<float>(x))));
}

// Row block `block` of `head`, whose numbers are elements T; keys: bitmap, null for every key.
template <class T>
Ideal ideal_of(const kernels::AttentionHead& head, int64_t block, const uint64_t* keys) {
  const int64_t first = head.first_row(block);
  Ideal ideal;
  for (int r = 0; r < head.rows(block); ++r) {
    const int64_t limit = first + r + head.offset();
    std::vector<double> score;
    std::vector<int64_t> index;
    double top = -HUGE_VAL;
    for (int64_t j = 0; j <= limit; ++j) {
      if (keys != nullptr && (keys[j / 64] >> (j % 64) & 1) == 0) continue;
      double s = 0;
      for (int x = 0; x < head.head_dim; ++x)
        s += static_cast<double>(head.q[(first + r) * head.q_stride + x]) *
             static_cast<double>(head.k[j * head.k_stride + x]);
      s *= static_cast<double>(head.scale);
      const auto cap = static_cast<double>(head.softcap);
      if (cap > 0) s = cap * std::tanh(s / cap);
      score.push_back(s);
      index.push_back(j);
      top = std::max(top, s);
      ideal.largest_score = std::max(ideal.largest_score, std::abs(s));
    }
    double sum = 0;
    std::vector<double> exact(static_cast<size_t>(head.head_dim)), rounded(exact);
    for (size_t n = 0; n < score.size(); ++n) {
      const double p = std::exp(score[n] - top);
      sum += p;
      for (size_t x = 0; x < exact.size(); ++x) {
        const double value =
            static_cast<double>(head.v[index[n] * head.v_stride + static_cast<int64_t>(x)]);
        exact[x] += p * value;
        rounded[x] += rounded_to<T>(p) * value;
      }
    }
    for (size_t x = 0; x < exact.size(); ++x) {
      const double o = sum > 0 ? exact[x] / sum : 0;
      const double loses = rounded_to<T>(sum > 0 ? rounded[x] / sum : 0) - o;
      ideal.o.push_back(o);
      ideal.error = std::max(ideal.error, std::abs(loses));
    }
    ideal.lse.push_back(sum > 0 ? top + std::log(sum) : -HUGE_VAL);
  }
  return ideal;
}

// lse is f32: 2^x to 7.5e-5 (cpu_amx) and 4 ulp of the score's 64 .. 256 products.
inline double lse_tolerance(const Ideal& ideal) {
  return 1e-4 + 8 * 0x1p-24 * ideal.largest_score * 8;
}

}  // namespace mi::test
