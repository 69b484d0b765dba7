// What one instruction can do from registers alone. Included inside a region with AVX-512 BF16.

// 12 accumulators hide the latency of either instruction. They are named one by one, and pinned to
// registers once per round: an array the compiler may keep in memory, which showed a third of what
// a GEMM reached. `memory` holds 16 values to multiply and takes 16 sums.
template <class Step>
MI_INLINE void repeat_step(float* memory, int repeats, const Step& step) {
  const __m512 x = _mm512_set1_ps(memory[0]), y = _mm512_set1_ps(memory[1]);
  __m512 a = x, b = y, c = x, d = y, e = x, f = y, g = x, h = y, i = x, j = y, k = x, l = y;
  for (int n = 0; n < repeats; ++n) {
    a = step(a, x, y);
    b = step(b, x, y);
    c = step(c, x, y);
    d = step(d, x, y);
    e = step(e, x, y);
    f = step(f, x, y);
    g = step(g, x, y);
    h = step(h, x, y);
    i = step(i, x, y);
    j = step(j, x, y);
    k = step(k, x, y);
    l = step(l, x, y);
    asm volatile(""
                 : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i),
                   "+v"(j), "+v"(k), "+v"(l));
  }
  _mm512_storeu_ps(memory, a + b + c + d + e + f + g + h + i + j + k + l);
}

struct FmaStep {
  MI_INLINE __m512 operator()(__m512 sum, __m512 x, __m512 y) const {
    return _mm512_fmadd_ps(x, y, sum);
  }
};
struct DotStep {
  MI_INLINE __m512 operator()(__m512 sum, __m512 x, __m512 y) const {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
  }
};

// FLOP of one call.
inline double repeat_fma(float* memory, int repeats) {
  repeat_step(memory, repeats, FmaStep());
  return 12.0 * 32 * repeats;
}
inline double repeat_dot(float* memory, int repeats) {
  repeat_step(memory, repeats, DotStep());
  return 12.0 * 64 * repeats;
}
