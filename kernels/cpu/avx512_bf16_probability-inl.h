// The estimators' probabilities by dot products of bf16 pairs: here lanes are keys, which are
// transposed tile by tile, a tenth of the products of 64 rows. Included after
// bf16_probability-inl.h and avx512_bf16_attention-inl.h.
//
// Scores are computed once and kept for the second pass, as computing them twice took half as much
// again (stripe at 16,384 tokens, Zen 4: 32 ms against 21 at d = 64, 57 against 35 at d = 128).

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

inline void probabilities_of_pairs(const ProbabilityRows& rows, const std::byte* packed,
                                   int64_t n_kv, void* scratch) {
  Carver carve{static_cast<char*>(scratch)};
  const RowSums<PairScores> sums(rows, packed, n_kv, carve);
  sums.run(true, [&](int64_t begin) {
    const int64_t keys = sums.end - begin < kKeyTile ? sums.end - begin : kKeyTile;
    for (int r = 0; r < rows.rows; ++r)
      __builtin_memcpy(rows.p + r * rows.p_stride + begin, sums.s + r * kKeyTile,
                       static_cast<size_t>(keys) * sizeof(float));
  });
  for (int r = 0; r < rows.rows; ++r) {
    float* p = rows.p + r * rows.p_stride;
    put_probabilities(p, sums.end, sums.factor, sums.top[r], p);
  }
}

// Scores for codes are kept in 16 bits, 512 to an octave below the row's maximum of the time: good
// to a 32nd of a code, down to 2^-64 of the maximum.
struct KeptScores {
  static constexpr float kOctave = 512;
  static constexpr int kCode = 32;  // 16 codes an octave
  int16_t* score;                   // [steps, 64, 64] as packing f32 leaves them
  float* top;                       // [steps, 64]

  static int64_t scratch_floats(int64_t n_kv) {
    return bitmap_words(n_kv) * (kRowBlock * kKeyTile / 2 + kRowBlock);
  }
  KeptScores(int64_t n_kv, Carver& carve)
      : score(reinterpret_cast<int16_t*>(
            carve.floats(bitmap_words(n_kv) * (kRowBlock * kKeyTile / 2)))),
        top(carve.floats(bitmap_words(n_kv) * kRowBlock)) {}

  [[nodiscard]] int16_t* row(int64_t begin, int r) const { return score + (begin + r) * kKeyTile; }
  MI_INLINE void put(int64_t begin, int r, const float* s, float factor, float row_top) const {
    top[begin + r] = row_top;
    const auto pair = [&](int i) {
      const auto fixed = [&](int at) {
        return _mm512_maskz_cvtps_epi32(
            0xffff, _mm512_fmsub_ps(_mm512_loadu_ps(s + 16 * at), _mm512_set1_ps(kOctave * factor),
                                    _mm512_set1_ps(kOctave * row_top)));
      };
      return _mm512_maskz_packs_epi32(~uint32_t{0}, fixed(i), fixed(i + 1));
    };
    _mm512_store_si512(row(begin, r), pair(0));
    _mm512_store_si512(row(begin, r) + 32, pair(2));
  }
  // sum: log2 of the row's sum times the threshold.
  MI_INLINE void put_codes(int64_t begin, int r, int64_t keys, float sum, uint8_t* code) const {
    const float zero = kCodeAtThreshold * kCode + kOctave * (top[begin + r] - sum);
    const float clamped = zero < -32768 ? -32768 : zero > 32767 ? 32767 : zero;
    const __m512i less =
        _mm512_set1_epi16(static_cast<int16_t>(_mm_cvtss_si32(_mm_set_ss(clamped))));
    const auto codes = [&](int half) {
      const __m512i at = _mm512_load_si512(row(begin, r) + 32 * half);
      return _mm512_srai_epi16(_mm512_adds_epi16(at, less), 5);
    };
    store_codes(codes(0), codes(1), keys, code);
  }
};

inline void codes_of_pairs(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                           const MassCodes& codes, void* scratch) {
  Carver carve{static_cast<char*>(scratch)};
  const RowSums<PairScores> sums(rows, packed, n_kv, carve);
  const KeptScores kept(n_kv, carve);
  sums.run(false, [&](int64_t begin) {
    for (int r = 0; r < rows.rows; ++r)
      if (begin < rows.visible[r])
        kept.put(begin, r, sums.s + r * kKeyTile, sums.factor, sums.top[r]);
  });
  const float threshold = __builtin_log2f(codes.threshold);
  for (int64_t begin = 0; begin < sums.end; begin += kKeyTile)
    for (int r = 0; r < rows.rows; ++r)
      if (begin < rows.visible[r])
        kept.put_codes(begin, r, rows.visible[r] - begin, sums.top[r] + threshold,
                       codes.code + r * codes.stride + begin);
}
