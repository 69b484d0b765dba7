// The estimators' probabilities by tiles. Included after amx_tiles-inl.h and
// bf16_probability-inl.h. Scores are computed twice, for the sums and for the values: tiles are
// cheaper than a round trip of the rows through memory.

struct TileScores {
  static constexpr int kStepKeys = 256;
  const ProbabilityRows& rows;
  PackedRows packed;
  bf16* q;                   // [64, padded(dim)]
  int64_t half_end[2] = {};  // row blocks of one group see 4096 keys more or less

  static int64_t scratch_floats(int dim) { return kRowBlock * padded(dim) / 2; }
  TileScores(const ProbabilityRows& of, const std::byte* keys, int64_t n_kv, Carver& carve)
      : rows(of),
        packed(keys, of.dim, n_kv),
        q(reinterpret_cast<bf16*>(carve.floats(scratch_floats(of.dim)))) {
    static constexpr TileConfig kConfig;
    round_query(rows, q);
    for (int r = 0; r < rows.rows; ++r)
      half_end[r / 32] = rows.visible[r] > half_end[r / 32] ? rows.visible[r] : half_end[r / 32];
    _tile_loadconfig(&kConfig);
  }
  ~TileScores() { _tile_release(); }
  TileScores(const TileScores&) = delete;
  TileScores& operator=(const TileScores&) = delete;

  void operator()(int64_t begin, float* s) const {
    const int dim = padded(rows.dim);
    memory_fence();
    for (int i = 0; i < kStepKeys / kUnitKeys; ++i)
      for (int half = 0; half < rows.rows; half += 32)
        if (begin + i * kUnitKeys < half_end[half / 32])
          score_tile(q + half * dim, dim,
                     packed.k + (begin / kUnitKeys + i) * unit_elements(rows.dim),
                     s + half * kStepKeys + i * kUnitKeys, kStepKeys, [] {});
    memory_fence();
  }
};

// Codes of a row of scores; `zero` is what log2(p) = 0 is in sixteenths of an octave. Scores are
// read in whole groups of 64.
MI_INLINE void put_codes(const float* s, int64_t keys, float factor, float zero, uint8_t* code) {
  for (int64_t j = 0; j < keys; j += 64) {
    __m512 value[4];
    for (int i = 0; i < 4; ++i)
      value[i] = _mm512_fmadd_ps(_mm512_loadu_ps(s + j + 16 * i), _mm512_set1_ps(16 * factor),
                                 _mm512_set1_ps(zero));
    put_64_codes(value, keys - j, code + j);
  }
}

// To probabilities rows.p, or, where `codes` is given, to those.
inline void packed_probability_rows(const ProbabilityRows& rows, const std::byte* packed,
                                    int64_t n_kv, const MassCodes* codes, void* scratch) {
  Carver carve{static_cast<char*>(scratch)};
  const RowSums<TileScores> sums(rows, packed, n_kv, carve);
  sums.run(false, [](int64_t) {});
  constexpr int kStepKeys = TileScores::kStepKeys;
  const float threshold = codes != nullptr ? __builtin_log2f(codes->threshold) : 0;
  for (int64_t begin = 0; begin < sums.end; begin += kStepKeys) {
    sums.step(begin, codes == nullptr);
    const int64_t keys = sums.end - begin < kStepKeys ? sums.end - begin : kStepKeys;
    for (int r = 0; r < rows.rows; ++r) {
      const float* row = sums.s + r * kStepKeys;
      if (codes != nullptr) {
        const int64_t shown = rows.visible[r] - begin;
        put_codes(row, shown < keys ? shown : keys, sums.factor,
                  kCodeAtThreshold - 16 * (sums.top[r] + threshold),
                  codes->code + r * codes->stride + begin);
      } else {
        put_probabilities(row, keys, sums.factor, sums.top[r], rows.p + r * rows.p_stride + begin);
      }
    }
  }
}
