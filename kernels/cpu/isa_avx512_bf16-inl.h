// What AVX-512 BF16 adds to a register tile: pairs of bf16 and their dot product. Included after
// bf16_pairs-inl.h.
//
// vdpbf16ps zmm: 64 FLOP, two f32 FMAs' worth. It replaces them at the same count of loads,
// broadcasts and accumulators per step, so the f32 tile of 6 x 64 serves it too.

struct Bf16Pair {
  bf16 first;
  bf16 second;
};

template <>
struct Dot<Bf16Pair> {
  // Rows of bf16 may start at any element.
  static MI_INLINE Vec broadcast(const Bf16Pair* a) {
    int32_t bits;
    __builtin_memcpy(&bits, a, sizeof bits);
    return (Vec)_mm512_set1_epi32(bits);
  }
  static MI_INLINE Vec load(const Bf16Pair* b) { return (Vec)_mm512_loadu_si512(b); }
  static MI_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
  }
};
