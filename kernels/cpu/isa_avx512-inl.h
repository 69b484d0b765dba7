// AVX-512 F primitives. vfmadd231ps zmm: two per cycle, 4 cycles latency, so 8 independent
// accumulators saturate it; a 6 x 64 tile has 24, with 4 registers for B and one broadcast.
struct Isa {
  static constexpr int kLanes = 16;
  static constexpr int kGroupLanes = 64;  // query lanes of one register tile
  static constexpr int kTileRows = 6;
  typedef float Vec __attribute__((vector_size(64)));
  typedef int32_t IntVec __attribute__((vector_size(64)));

  static MI_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static MI_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static MI_INLINE Vec set1(float x) { return _mm512_set1_ps(x); }
  static MI_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  // Bit i: a[i] > b[i].
  static MI_INLINE uint32_t greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  // The masked form: g++ 12 warns of the plain one's own undefined operand (one vmaxps either way).
  static MI_INLINE Vec max(Vec a, Vec b) { return _mm512_mask_max_ps(a, 0xffff, a, b); }
};
