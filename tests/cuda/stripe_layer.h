// The stripe estimate on a device or the emulator of one, against double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/cuda/under_test.h"
#include "tests/support.h"

namespace mi::test::cuda {
using kernels::cuda::EstimateCall;
using kernels::cuda::HeadRule;

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

// Empty if all is right: no fault, every code that of the estimate, and nothing
// written for a head that is not asked for.
template <class T, int kDim>
[[nodiscard]] std::string check_stripes(const StripeLayer& of, uint64_t seed) {
  const int64_t stride_q = of.heads * kDim, stride_k = of.kv_heads * kDim;
  const auto q = random_elements<T>(of.n_q * stride_q, seed, of.sigma);
  const auto k = random_elements<T>(of.n_kv * stride_k, seed + 1, of.sigma);
  const kernels::cuda::HeadWords shape{of.n_q, of.n_kv};
  constexpr uint8_t kPoison = 0xa5;
  // All heads but the second of three or more, in falling order; 4-byte stores are aligned.
  std::vector<uint32_t> words(static_cast<size_t>(of.heads * shape.count() * 16),
                              0x01010101U * kPoison);
  const auto* const codes = reinterpret_cast<const uint8_t*>(words.data());
  std::vector<int32_t> which;
  for (int h = of.heads - 1; h >= 0; --h)
    if (of.heads < 3 || h != 1) which.push_back(h);
  std::vector<HeadRule> rules(static_cast<size_t>(of.heads));
  const auto density = [&](int h) { return of.density * (h % 2 == 0 ? 1.0f : 0.75f); };
  for (int h = 0; h < of.heads; ++h) rules[static_cast<size_t>(h)].density = density(h);
  const auto launch = make_launch<T, kDim, EstimateCall<T>>();
  const EstimateCall<T> call{.q = {launch->input(q), stride_q, kDim},
                             .k = {launch->input(k), stride_k, kDim},
                             .shape = shape,
                             .heads = launch->input(rules),
                             .which = launch->input(which),
                             .count = static_cast<int32_t>(which.size()),
                             .heads_per_kv = of.heads / of.kv_heads,
                             .scale = 1 / std::sqrt(static_cast<float>(kDim)),
                             .softcap = of.softcap,
                             .codes = reinterpret_cast<uint8_t*>(launch->output(words))};
  const Ran ran = launch->run(call);
  int64_t wrong = 0, near = 0;
  for (int h = 0; h < of.heads; ++h)
    for (int64_t m = 0; m < shape.row_blocks(); ++m) {
      const int64_t end = std::min((m + 1) * 64, of.n_q) + of.n_kv - of.n_q;
      const auto e =
          estimate(of, q.data() + h * kDim, k.data() + h / (of.heads / of.kv_heads) * kDim,
                   stride_q, stride_k, kDim, m, end);
      const uint8_t* row = codes + 64 * (h * shape.count() + shape.before(m));
      const bool asked = std::count(which.begin(), which.end(), h) != 0;
      for (int64_t j = 0; j < 64 * (shape.before(m + 1) - shape.before(m)); ++j) {
        if (!asked || j >= kernels::bitmap_words(end) * 64) {
          wrong += row[j] == kPoison ? 0 : 1;
          continue;
        }
        if (j >= end) continue;
        // Means of 16 bits and f32 sums: a few 1e-5 of a score, so of the estimate.
        const auto code = [&](double part) {
          const double ratio = e[static_cast<size_t>(j)] / static_cast<double>(density(h));
          return std::clamp(std::floor(192 + 16 * std::log2(ratio * (1 + part))), 0.0, 255.0);
        };
        if (code(-5e-4) != code(5e-4)) ++near;
        wrong += row[j] < code(-5e-4) || row[j] > code(5e-4) ? 1 : 0;
      }
    }
  std::string text = ran.wrong;
  if (wrong != 0) text += "wrong codes: " + std::to_string(wrong) + "\n";
  // A code is 4.4 % wide: one in 44 is expected to be.
  if (near * 20 >= of.heads * shape.row_blocks() * of.n_kv) text += "too many codes in doubt\n";
  return text;
}

}  // namespace mi::test::cuda
