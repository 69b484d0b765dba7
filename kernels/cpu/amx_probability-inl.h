// Softmax rows of a few f32 queries over packed bf16 keys, for the estimators. Included after
// amx_attention-inl.h. A query is the sum of two bf16 numbers (16 bits of it, half an ulp of bf16
// keys would be lost otherwise). Scores are computed twice, for the sums and for the values: tiles
// are cheaper than a round trip of the rows through memory.

inline void split_query(const ProbabilityRows& rows, bf16* high, bf16* low) {
  const int wide = padded(rows.dim);
  for (int r = 0; r < kRowBlock; ++r)
    for (int x = 0; x < wide; x += 16) {
      const int left = r < rows.rows ? rows.dim - x : 0;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff
                                               : left > 0 ? (1 << left) - 1
                                                          : 0);
      const __m512 q = _mm512_maskz_loadu_ps(mask, rows.q + r * rows.q_stride + x);
      // Truncated, so that the rest has the same sign and is exact in f32.
      const __m512i upper = _mm512_and_si512((__m512i)q, _mm512_set1_epi32(-65536));
      const __m512 rest = q - (__m512)upper;
      const auto put = [&](bf16* to, __m512 value) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(to + r * wide + x),
                           (__m256i)_mm512_cvtneps_pbh(value));
      };
      put(high, (__m512)upper);
      put(low, rest);
    }
}

inline int64_t probability_scratch_floats(int dim) {
  return kRowBlock * (padded(dim) + kStepUnits * kUnitKeys * 3 / 2 + 1 + 16);
}

inline void packed_probability_rows(const ProbabilityRows& rows, const PackedRows& packed,
                                    void* scratch) {
  static constexpr TileConfig kConfig;
  constexpr int kStepKeys = kStepUnits * kUnitKeys;
  const int dim = padded(rows.dim);
  const int64_t part = static_cast<int64_t>(kRowBlock) * dim;
  Carver carve{static_cast<char*>(scratch)};
  auto* q = reinterpret_cast<bf16*>(carve.floats(part));  // [2, 64, dim]
  float* s = carve.floats(kRowBlock * kStepKeys);
  auto* p = reinterpret_cast<bf16*>(carve.floats(kRowBlock * kStepKeys / 2));
  float* top = carve.floats(kRowBlock);
  float* sum = carve.floats(kRowBlock * 16);
  split_query(rows, q, q + part);
  int64_t end = 0;
  for (int r = 0; r < rows.rows; ++r) end = rows.visible[r] > end ? rows.visible[r] : end;
  for (int r = 0; r < kRowBlock; ++r) top[r] = kNoTop;
  for (int i = 0; i < kRowBlock * 16; ++i) sum[i] = 0;
  const float factor = score_factor(rows.scale, rows.softcap);
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);

  const auto scores = [&](int64_t begin) {
    memory_fence();
    for (int i = 0; i < kStepUnits && begin + i * kUnitKeys < end; ++i)
      for (int half = 0; half < rows.rows; half += 32)
        score_tile(q + half * dim, 2, part, dim,
                   packed.k + (begin / kUnitKeys + i) * unit_elements(rows.dim),
                   s + half * kStepKeys + i * kUnitKeys, kStepKeys);
    memory_fence();
    finish_scores(s, kStepKeys, rows.scale, rows.softcap);
    for (int r = 0; r < rows.rows; ++r)
      for (int64_t x = 0; x < kStepKeys; x += 16) {
        const int64_t shown = rows.visible[r] - begin - x;
        if (shown >= 16) continue;
        const __mmask16 hidden = _mm512_cmpge_epi32_mask(
            lanes, _mm512_set1_epi32(static_cast<int32_t>(shown > 0 ? shown : 0)));
        _mm512_mask_storeu_ps(s + r * kStepKeys + x, hidden, _mm512_set1_ps(kNegativeInfinity));
      }
  };
  _tile_loadconfig(&kConfig);
  for (int64_t begin = 0; begin < end; begin += kStepKeys) {
    scores(begin);
    float shrink = 0;  // no output to rescale
    for (int r = 0; r < rows.rows; ++r)
      (void)softmax_row(s + r * kStepKeys, kStepKeys, factor, top + r, sum + r * 16,
                        p + r * kStepKeys, &shrink);
  }
  for (int r = 0; r < rows.rows; ++r) {
    float total = 0;
    for (int lane = 0; lane < 16; ++lane) total += sum[r * 16 + lane];
    top[r] += __builtin_log2f(total);
  }
  for (int64_t begin = 0; begin < end; begin += kStepKeys) {
    scores(begin);
    for (int r = 0; r < rows.rows; ++r) {
      float* out = rows.p + r * rows.p_stride + begin;
      for (int64_t x = 0; x < kStepKeys && begin + x < end; x += 16) {
        const int64_t left = end - begin - x;
        const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
        const __m512 value =
            exp2_coarse(_mm512_fmsub_ps(_mm512_loadu_ps(s + r * kStepKeys + x),
                                        _mm512_set1_ps(factor), _mm512_set1_ps(top[r])));
        _mm512_mask_storeu_ps(out + x, mask, value);
      }
    }
  }
  _tile_release();
}
