// What the decoder does to single rows between linear layers.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/half.h"

namespace mi::search {

inline void store(float value, float& place) {
  place = value;
}
inline void store(float value, bf16& place) {
  place = to_bf16(value);
}

// out = x / rms(x) * weight. Eight partial sums in a fixed order: the compiler may vectorise them
// without reassociating, and the result is the same on every machine.
template <class T>
void rms_norm(const float* x, const float* weight, double eps, int64_t width, T* out) {
  float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= width; i += 8) {
    for (int lane = 0; lane < 8; ++lane) partial[lane] += x[i + lane] * x[i + lane];
  }
  double sum = 0;
  for (const float value : partial) sum += static_cast<double>(value);
  for (; i < width; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(width) + eps));
  for (i = 0; i < width; ++i) store(x[i] * scale * weight[i], out[i]);
}

// Rotates the pairs (i, i + turning/2) of the first `turning` dimensions by the angles of one
// position; the others stay.
template <class T>
void rotate_half(const float* in, const float* cosine, const float* sine, int64_t turning,
                 int64_t dim, T* out) {
  const int64_t half = turning / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = in[i];
    const float b = in[i + half];
    store(a * cosine[i] - b * sine[i], out[i]);
    store(b * cosine[i] + a * sine[i], out[i + half]);
  }
  for (int64_t i = turning; i < dim; ++i) store(in[i], out[i]);
}

}  // namespace mi::search
