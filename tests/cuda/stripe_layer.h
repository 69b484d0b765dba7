// The stripe estimate on a device or the emulator of one, against double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/cuda/under_test.h"
#include "tests/support.h"

namespace mi::test::cuda {
using kernels::cuda::Sequence;
using kernels::cuda::StripeCall;
using kernels::cuda::StripeItem;

struct StripeLayer {
  int64_t n_q, n_kv;
  int heads, kv_heads;
  float density;
  float softcap = 0;
  float sigma = 1;
};

template <class T>
std::vector<T> random_elements(int64_t count, uint64_t seed, float sigma) {
  std::vector<T> values;
  for (const float x : random_normal(static_cast<size_t>(count), seed, sigma))
    values.push_back(narrowed<T>(x));
  return values;
}

// The mass 64 p that each key has for a row block's mean query.
template <class T>
std::vector<double> estimate(const StripeLayer& of, const T* q, const T* k, int64_t stride_q,
                             int64_t stride_k, int dim, int64_t block, int64_t keys_end) {
  const int64_t first = block * 64;
  const int64_t rows = std::min<int64_t>(64, of.n_q - first);
  std::vector<double> mean(static_cast<size_t>(dim)), e;
  for (int64_t r = 0; r < rows; ++r)
    for (int x = 0; x < dim; ++x)
      mean[static_cast<size_t>(x)] +=
          static_cast<double>(to_float(q[(first + r) * stride_q + x])) / static_cast<double>(rows);
  double sum = 0;
  for (int64_t j = 0; j < keys_end; ++j) {
    double s = 0;
    for (int x = 0; x < dim; ++x)
      s += mean[static_cast<size_t>(x)] * static_cast<double>(to_float(k[j * stride_k + x]));
    s /= std::sqrt(dim);
    const auto cap = static_cast<double>(of.softcap);
    if (cap > 0) s = cap * std::tanh(s / cap);
    e.push_back(std::exp(s));
    sum += e.back();
  }
  for (double& x : e) x *= 64 / sum;
  return e;
}

// Empty if all is right: no fault, and every bit that of the estimate.
template <class T, int kDim>
[[nodiscard]] std::string check_stripes(const StripeLayer& of, uint64_t seed) {
  const int64_t stride_q = of.heads * kDim, stride_k = of.kv_heads * kDim;
  const auto q = random_elements<T>(of.n_q * stride_q, seed, of.sigma);
  const auto k = random_elements<T>(of.n_kv * stride_k, seed + 1, of.sigma);
  const int64_t blocks = (of.n_q + 63) / 64, words = kernels::bitmap_words(of.n_kv);
  const uint64_t poison = 0xdeadbeefdeadbeef;
  std::vector<uint64_t> bits(static_cast<size_t>(of.heads * blocks * words), poison);
  const std::unique_ptr<Launch<StripeCall<T>>> launch = stripe_launch<T, kDim>();
  uint64_t* const seen_bits = launch->output(bits.data(), bits.size());
  std::vector<StripeItem> items;
  for (int h = 0; h < of.heads; ++h)
    for (int64_t first = 0; first < blocks; first += 64)
      items.push_back({0, h, static_cast<int32_t>(first), of.density,
                       seen_bits + (h * blocks + first) * words, words});
  const std::vector<Sequence<T>> sequences = {{{launch->input(q), stride_q, kDim},
                                               {launch->input(k), stride_k, kDim},
                                               {},
                                               {},
                                               nullptr,
                                               0,
                                               of.n_q,
                                               of.n_kv}};
  const StripeCall<T> call{launch->input(sequences), launch->input(items), of.heads / of.kv_heads,
                           1 / std::sqrt(static_cast<float>(kDim)), of.softcap};
  const Ran ran = launch->run(call, static_cast<int64_t>(items.size()));
  int64_t wrong = 0, near = 0;
  for (int h = 0; h < of.heads; ++h)
    for (int64_t m = 0; m < blocks; ++m) {
      const int64_t end = std::min((m + 1) * 64, of.n_q) + of.n_kv - of.n_q;
      const auto e =
          estimate(of, q.data() + h * kDim, k.data() + h / (of.heads / of.kv_heads) * kDim,
                   stride_q, stride_k, kDim, m, end);
      const uint64_t* row = bits.data() + (h * blocks + m) * words;
      for (int64_t j = 0; j < kernels::bitmap_words(end) * 64; ++j) {
        const bool got = (row[j / 64] >> (j % 64) & 1) != 0;
        if (j >= end) {
          wrong += got ? 1 : 0;
          continue;
        }
        // Means of 16 bits and f32 sums: a few 1e-5 of a score, so of the estimate.
        const double ratio = e[static_cast<size_t>(j)] / static_cast<double>(of.density);
        if (std::abs(ratio - 1) < 5e-4) {
          ++near;
        } else {
          wrong += got == (ratio > 1) ? 0 : 1;
        }
      }
      for (int64_t w = kernels::bitmap_words(end); w < words; ++w)
        wrong += row[w] == poison ? 0 : 1;
    }
  std::string text = ran.wrong;
  if (wrong != 0) text += "wrong bits: " + std::to_string(wrong) + "\n";
  if (near * 50 >= of.heads * blocks * of.n_kv) text += "too many keys on the threshold\n";
  return text;
}

}  // namespace mi::test::cuda
