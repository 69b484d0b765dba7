// Scores of the estimators' probabilities by tiles. Included after amx_tiles-inl.h and
// bf16_probability-inl.h.

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
