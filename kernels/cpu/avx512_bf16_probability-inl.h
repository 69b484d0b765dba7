// Scores of the estimators' probabilities by dot products of bf16 pairs: here lanes are keys, which
// are transposed tile by tile, 1 / 16 of the products of 64 rows. Included after
// bf16_probability-inl.h and avx512_bf16_attention-inl.h.

struct PairScores {
  static constexpr int kStepKeys = kKeyTile;
  const ProbabilityRows& rows;
  const bf16* k;  // [n_kv, dim]
  int64_t n_kv;
  bf16* q;     // [64, padded(dim)]
  bf16* keys;  // [dim / 2][64][2]

  static int64_t scratch_floats(int dim) { return int64_t{kRowBlock} * padded(dim); }
  PairScores(const ProbabilityRows& of, const std::byte* packed, int64_t keys_packed, Carver& carve)
      : rows(of),
        k(PackedPairs(packed, of.dim, keys_packed).k),
        n_kv(keys_packed),
        q(reinterpret_cast<bf16*>(carve.floats(scratch_floats(of.dim) / 2))),
        keys(reinterpret_cast<bf16*>(carve.floats(scratch_floats(of.dim) / 2))) {
    round_query(rows, q);
  }

  void operator()(int64_t begin, float* s) const {
    const int dim = rows.dim;
    const int64_t count = n_kv - begin < kKeyTile ? n_kv - begin : kKeyTile;
    pack_lane_pairs(k + begin * dim, dim, static_cast<int>(count), dim, keys);
    const Bf16Pair* row[kRowBlock];
    for (int r = 0; r < rows.rows; ++r)
      row[r] = reinterpret_cast<const Bf16Pair*>(q + int64_t{r} * padded(dim));
    int first = 0;  // row blocks see ever more keys
    while (rows.visible[first] <= begin) ++first;
    tile_product<true>(row + first, rows.rows - first, dim / 2,
                       reinterpret_cast<const Bf16Pair*>(keys), s + first * kKeyTile);
  }
};
