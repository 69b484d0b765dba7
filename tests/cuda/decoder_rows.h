// What a decoder does to rows on a device or the emulator of one, against the same in double
// precision. Empty if all is right.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/decoder_call.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
using kernels::cuda::ActivateCall;
using kernels::cuda::AddCall;
using kernels::cuda::NormCall;
using kernels::cuda::RotateCall;

inline double widened(float x) {
  return static_cast<double>(x);
}
inline double widened(bf16 x) {
  return static_cast<double>(to_float(x));
}

// A rounding of T, and a few of f32 relative to the terms, which are of the order of 1.
template <class T>
std::string differences(const std::string& what, const std::vector<T>& got,
                        const std::vector<double>& want) {
  const double rounding = std::is_same_v<T, bf16> ? 0x1p-8 : 0;
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(widened(got[i]) - want[i]) <= std::abs(want[i]) * rounding + 4e-6))
      return what + " at " + std::to_string(i) + ": got " + std::to_string(widened(got[i])) +
             ", expected " + std::to_string(want[i]) + "\n";
  return "";
}

// Of a row of so many values.
inline std::vector<double> normed(const std::vector<double>& x, const float* weight, double eps) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  std::vector<double> out(x);
  for (size_t i = 0; i < x.size(); ++i)
    out[i] *= static_cast<double>(weight[i]) / std::sqrt(sum / static_cast<double>(x.size()) + eps);
  return out;
}

constexpr float kEps = 1e-5f;

template <class T>
std::string check_norm(int64_t rows, int64_t width, uint64_t seed) {
  const auto x = random_normal(static_cast<size_t>(rows * width), seed, 1);
  const auto weight = random_normal(static_cast<size_t>(width), seed + 1, 1);
  std::vector<T> out(x.size());
  const auto launch = make_launch<bf16, 64, NormCall<T>>();
  std::string wrong = launch
                          ->run({.x = launch->input(x),
                                 .weight = launch->input(weight),
                                 .out = launch->output(out),
                                 .rows = rows,
                                 .width = width,
                                 .eps = kEps})
                          .wrong;
  std::vector<double> want;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = normed({x.begin() + r * width, x.begin() + (r + 1) * width}, weight.data(),
                            static_cast<double>(kEps));
    want.insert(want.end(), row.begin(), row.end());
  }
  return wrong + differences("norm", out, want);
}

inline std::string check_add(int64_t rows, int64_t width, bool has_bias, bool has_norm,
                             uint64_t seed) {
  const auto stream = random_normal(static_cast<size_t>(rows * width), seed, 1);
  const auto delta = random_normal(stream.size(), seed + 1, 1);
  const auto bias = random_normal(static_cast<size_t>(width), seed + 2, 1);
  const auto norm = random_normal(static_cast<size_t>(width), seed + 3, 1);
  std::vector<float> out = stream;
  const auto launch = make_launch<bf16, 64, AddCall>();
  std::string wrong = launch
                          ->run({.stream = launch->output(out),
                                 .delta = launch->input(delta),
                                 .bias = has_bias ? launch->input(bias) : nullptr,
                                 .norm = has_norm ? launch->input(norm) : nullptr,
                                 .rows = rows,
                                 .width = width,
                                 .eps = kEps})
                          .wrong;
  std::vector<double> want;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<double> row(delta.begin() + r * width, delta.begin() + (r + 1) * width);
    for (size_t i = 0; i < row.size() && has_bias; ++i) row[i] += widened(bias[i]);
    if (has_norm) row = normed(row, norm.data(), static_cast<double>(kEps));
    for (size_t i = 0; i < row.size(); ++i)
      want.push_back(row[i] + widened(stream[static_cast<size_t>(r * width) + i]));
  }
  return wrong + differences("add", out, want);
}

inline std::string check_rotate(RotateCall call, bool has_bias, bool has_norms, uint64_t seed) {
  const int64_t all = call.heads + 2 * call.kv_heads;
  const int64_t dim = call.head_dim;
  const int64_t half = call.turning / 2;
  const auto qkv = random_normal(static_cast<size_t>(call.rows * all * dim), seed, 1);
  const auto bias = random_normal(static_cast<size_t>(all * dim), seed + 1, 1);
  const auto q_norm = random_normal(static_cast<size_t>(dim), seed + 2, 1);
  const auto k_norm = random_normal(static_cast<size_t>(dim), seed + 3, 1);
  const auto cosine = random_normal(static_cast<size_t>(call.rows * half), seed + 4, 1);
  const auto sine = random_normal(cosine.size(), seed + 5, 1);
  std::vector<bf16> out(qkv.size());
  const auto launch = make_launch<bf16, 64, RotateCall>();
  call.qkv = launch->input(qkv);
  call.out = launch->output(out);
  call.bias = has_bias ? launch->input(bias) : nullptr;
  call.q_norm = has_norms ? launch->input(q_norm) : nullptr;
  call.k_norm = has_norms ? launch->input(k_norm) : nullptr;
  call.cosine = launch->input(cosine);
  call.sine = launch->input(sine);
  call.eps = kEps;
  std::string wrong = launch->run(call).wrong;
  std::vector<double> want;
  for (int64_t r = 0; r < call.rows; ++r)
    for (int64_t h = 0; h < all; ++h) {
      const int64_t first = (r * all + h) * dim;
      std::vector<double> row(qkv.begin() + first, qkv.begin() + first + dim);
      for (size_t i = 0; i < row.size() && has_bias; ++i)
        row[i] += widened(bias[static_cast<size_t>(h * dim) + i]);
      const bool is_v = h >= call.heads + call.kv_heads;
      if (has_norms && !is_v)
        row = normed(row, (h < call.heads ? q_norm : k_norm).data(), static_cast<double>(kEps));
      for (int64_t i = 0; i < half && !is_v; ++i) {
        double& a = row[static_cast<size_t>(i)];
        double& b = row[static_cast<size_t>(i + half)];
        const double c = widened(cosine[static_cast<size_t>(r * half + i)]);
        const double s = widened(sine[static_cast<size_t>(r * half + i)]);
        const double turned = a * c - b * s;
        b = b * c + a * s;
        a = turned;
      }
      want.insert(want.end(), row.begin(), row.end());
    }
  return wrong + differences("rotate", out, want);
}

inline std::string check_activate(int64_t count, bool gelu, uint64_t seed) {
  auto gate = random_normal(static_cast<size_t>(count), seed, 3);
  const auto up = random_normal(gate.size(), seed + 1, 1);
  if (gate.size() > 1) {
    gate.front() = 200;  // e^x and e^-x beyond f32
    gate.back() = -200;
  }
  std::vector<bf16> out(gate.size());
  const auto launch = make_launch<bf16, 64, ActivateCall>();
  std::string wrong = launch
                          ->run({.gate = launch->input(gate),
                                 .up = launch->input(up),
                                 .out = launch->output(out),
                                 .count = count,
                                 .gelu = gelu ? 1 : 0})
                          .wrong;
  std::vector<double> want;
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = widened(gate[i]);
    const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    const double activated = gelu ? 0.5 * x * (1 + std::tanh(inner)) : x / (1 + std::exp(-x));
    want.push_back(activated * widened(up[i]));
  }
  return wrong + differences("activate", out, want);
}

}  // namespace mi::test::cuda
