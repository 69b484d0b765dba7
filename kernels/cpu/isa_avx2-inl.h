// AVX2 + FMA primitives. vfmadd231ps ymm: two per cycle, 4 cycles latency; 16 registers hold a
// 6 x 16 tile (12 accumulators, 2 for B, one broadcast).
struct Isa {
  static constexpr int kLanes = 8;
  static constexpr int kGroupLanes = 16;
  static constexpr int kTileRows = 6;
  typedef float Vec __attribute__((vector_size(32)));
  typedef int32_t IntVec __attribute__((vector_size(32)));

  static MI_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static MI_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static MI_INLINE Vec set1(float x) { return _mm256_set1_ps(x); }
  static MI_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  // Bit i: a[i] > b[i].
  static MI_INLINE uint32_t greater(Vec a, Vec b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
  }
  static MI_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
};
