// Online softmax of a warp's 16 rows over tiles of keys (FlashAttention-2, arXiv 2307.08691,
// section 3.1), on scores as the fragments of mma.m16n8k16 hold them: this thread has two rows, t/4
// and t/4 + 8, which it shares with the three other threads of its quad.
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace mi::kernels::cuda {

inline constexpr float kLog2e = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr float kNegativeInfinity = -__builtin_huge_valf();

// How a product q.k becomes an exponent of 2. The scale is folded into the exponential as one fused
// multiply-add, which needs a positive one: the row maximum is taken before it.
struct Exponent {
  float scale;    // of the product, with log2(e)
  float softcap;  // 0: none
  float factor;   // what is left to multiply with after apply()

  MI_DEVICE Exponent(float of_scale, float of_softcap)
      : scale(of_scale * kLog2e),
        softcap(of_softcap),
        factor(of_softcap == 0 && of_scale > 0 ? of_scale * kLog2e : 1.0f) {}

  // tanh(x) = 1 - 2 / (1 + e^2x): absolute error of a few 1e-7, infinities included.
  [[nodiscard]] MI_DEVICE float applied(float product) const {
    const float exponent = product * scale;
    const float grown = ptx::exp2_approx(exponent * (2 / softcap));
    const float bounded = 1.0f - 2.0f * ptx::reciprocal_approx(1.0f + grown);
    return softcap == 0 ? exponent : softcap * kLog2e * bounded;
  }
  template <int kColumns>
  MI_DEVICE void apply(float (&s)[kColumns][4]) const {
    if (softcap == 0 && scale > 0) return;
    MI_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      MI_UNROLL
      for (int x = 0; x < 4; ++x) s[j][x] = applied(s[j][x]);
    }
  }
};

MI_DEVICE float quad_max(float x) {
  x = fmaxf(x, ptx::shuffle_xor(x, 1));
  return fmaxf(x, ptx::shuffle_xor(x, 2));
}
MI_DEVICE float quad_sum(float x) {
  x += ptx::shuffle_xor(x, 1);
  return x + ptx::shuffle_xor(x, 2);
}

struct SoftmaxState {
  float top[2] = {kNegativeInfinity, kNegativeInfinity};  // largest score so far, of the quad
  float sum[2] = {0, 0};                                  // of this thread's columns only

  // Scores become 2^(factor (s - top)); what was summed so far is to be multiplied with `shrink`.
  template <int kColumns>
  MI_DEVICE void update(float (&s)[kColumns][4], float factor, float (&shrink)[2]) {
    MI_UNROLL
    for (int row = 0; row < 2; ++row) {
      float largest = top[row];
      MI_UNROLL
      for (int j = 0; j < kColumns; ++j)
        largest = fmaxf(largest, fmaxf(s[j][2 * row], s[j][2 * row + 1]));
      largest = quad_max(largest);
      // A row that has seen no key yet stays at -inf; with 0 in its place -inf - -inf is no NaN.
      const float base = largest == kNegativeInfinity ? 0.0f : largest * factor;
      shrink[row] = ptx::exp2_approx(top[row] * factor - base);
      top[row] = largest;
      sum[row] *= shrink[row];
      MI_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        MI_UNROLL
        for (int x = 2 * row; x < 2 * row + 2; ++x) {
          s[j][x] = ptx::exp2_approx(fmaf(s[j][x], factor, -base));
          sum[row] += s[j][x];
        }
      }
    }
  }
  MI_DEVICE void finish() {
    sum[0] = quad_sum(sum[0]);
    sum[1] = quad_sum(sum[1]);
  }
  // After finish(). 0 for a row without keys.
  [[nodiscard]] MI_DEVICE float inverse_sum(int row) const {
    return sum[row] > 0 ? ptx::reciprocal_approx(sum[row]) : 0.0f;
  }
  // After finish(): natural log-sum-exp, -inf for a row without keys.
  [[nodiscard]] MI_DEVICE float lse(int row, float factor) const {
    if (!(sum[row] > 0)) return kNegativeInfinity;
    return (top[row] * factor + ptx::log2_approx(sum[row])) * kLn2;
  }
};

}  // namespace mi::kernels::cuda
