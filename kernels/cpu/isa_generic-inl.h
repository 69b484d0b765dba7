// Four-lane vectors of the compiler, for any CPU; multiply and add may round separately.
struct Isa {
  static constexpr int kLanes = 4;
  static constexpr int kGroupLanes = 8;
  static constexpr int kTileRows = 4;
  typedef float Vec __attribute__((vector_size(16)));
  typedef int32_t IntVec __attribute__((vector_size(16)));

  static MI_INLINE Vec load(const float* p) {
    Vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static MI_INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
  static MI_INLINE Vec set1(float x) { return Vec{x, x, x, x}; }
  static MI_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
  // Bit i: a[i] > b[i].
  static MI_INLINE uint32_t greater(Vec a, Vec b) {
    const IntVec bits = (a > b) & IntVec{1, 2, 4, 8};
    return static_cast<uint32_t>(bits[0] | bits[1] | bits[2] | bits[3]);
  }
  static MI_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
};
