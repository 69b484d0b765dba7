// Softmax rows of a few queries over packed bf16 keys, for the estimators, as probabilities or as
// codes (MassCodes). Included after bf16_softmax-inl.h. Queries are rounded to bf16, as the keys
// are. Scores are computed twice, for the sums and for the values: products of bf16 are cheaper
// than a round trip of the rows through memory.

inline void round_query(const ProbabilityRows& rows, bf16* out) {
  const int wide = padded(rows.dim);
  for (int r = 0; r < kRowBlock; ++r)
    for (int x = 0; x < wide; x += 16) {
      const int left = r < rows.rows ? rows.dim - x : 0;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff
                                               : left > 0 ? (1 << left) - 1
                                                          : 0);
      const __m512 q = _mm512_maskz_loadu_ps(mask, rows.q + r * rows.q_stride + x);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + r * wide + x),
                         (__m256i)_mm512_cvtneps_pbh(q));
    }
}

// 64 codes of 16-bit numbers that packing f32 in order left in turns of four, clamped.
MI_INLINE void store_codes(__m512i low, __m512i high, int64_t keys, uint8_t* code) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i codes = _mm512_maskz_permutexvar_epi32(
      0xffff, order, _mm512_maskz_packus_epi16(~uint64_t{0}, low, high));
  if (keys >= 64) {
    _mm512_storeu_si512(code, codes);
  } else {
    _mm512_mask_storeu_epi8(code, (uint64_t{1} << keys) - 1, codes);
  }
}
// The same of floor(value): as four stores of vpmovusdb they took a twelfth of an estimate on
// Zen 4.
MI_INLINE void put_64_codes(const __m512 (&value)[4], int64_t keys, uint8_t* code) {
  const auto pair = [&](int i) {
    constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    return _mm512_maskz_packs_epi32(~uint32_t{0},
                                    _mm512_maskz_cvt_roundps_epi32(0xffff, value[i], kDown),
                                    _mm512_maskz_cvt_roundps_epi32(0xffff, value[i + 1], kDown));
  };
  store_codes(pair(0), pair(2), keys, code);
}

// log2 to 3e-5 (a code is 1/16): the exponent and a polynomial in the mantissa; of 0: -inf.
MI_INLINE __m512 log2_coarse(__m512 x) {
  const __m512 m = _mm512_maskz_getmant_ps(0xffff, x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  __m512 log = _mm512_fmadd_ps(_mm512_set1_ps(0.043004958f), m, _mm512_set1_ps(-0.40251339f));
  log = _mm512_fmadd_ps(log, m, _mm512_set1_ps(1.5894743f));
  log = _mm512_fmadd_ps(log, m, _mm512_set1_ps(-3.4898786f));
  log = _mm512_fmadd_ps(log, m, _mm512_set1_ps(5.0478554f));
  log = _mm512_fmadd_ps(log, m, _mm512_set1_ps(-2.7879262f));
  return log + _mm512_maskz_getexp_ps(0xffff, x);
}
// Codes of a + b.
inline void sum_codes(const float* a, const float* b, int64_t keys, float threshold,
                      uint8_t* code) {
  const __m512 zero = _mm512_set1_ps(kCodeAtThreshold - 16 * __builtin_log2f(threshold));
  for (int64_t j = 0; j < keys; j += 64) {
    __m512 value[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t x = j + 16 * i;
      const auto mask = static_cast<__mmask16>(keys - x >= 16 ? 0xffff
                                               : keys - x > 0 ? (1 << (keys - x)) - 1
                                                              : 0);
      __m512 sum = _mm512_maskz_loadu_ps(mask, a + x);
      if (b != nullptr) sum += _mm512_maskz_loadu_ps(mask, b + x);
      value[i] = _mm512_fmadd_ps(log2_coarse(sum), _mm512_set1_ps(16), zero);
    }
    put_64_codes(value, keys - j, code + j);
  }
}

// How many of the codes are at least `threshold`, and where.
inline int64_t compare_codes(const uint8_t* code, int64_t keys, uint8_t threshold,
                             uint64_t* words) {
  const __m512i limit = _mm512_set1_epi8(static_cast<char>(threshold));
  int64_t found = 0;
  for (int64_t j = 0; j < keys; j += 64) {
    const __mmask64 mask = keys - j >= 64 ? ~uint64_t{0} : (uint64_t{1} << (keys - j)) - 1;
    const uint64_t bits =
        _mm512_mask_cmpge_epu8_mask(mask, _mm512_maskz_loadu_epi8(mask, code + j), limit);
    found += __builtin_popcountll(bits);
    if (words != nullptr) words[j / 64] = bits;
  }
  return found;
}

// Scores are the instruction set's: its constructor takes what it needs of the scratch, and a call
// writes s [64, kStepKeys] of keys begin and on, of rows that see any of them at least.
template <class Scores>
struct RowSums {
  static constexpr int kStepKeys = Scores::kStepKeys;
  const ProbabilityRows& rows;
  Scores scores;
  float* s;
  float* top;  // [64] in base-2 units; after run() log2 of the row's sum
  float* sum;  // [64, 16]
  float factor;
  int64_t end = 0;  // of the row that sees most

  static int64_t scratch_floats(int dim) {
    return Scores::scratch_floats(dim) + kRowBlock * (kStepKeys + 1 + 16);
  }
  RowSums(const ProbabilityRows& of, const std::byte* packed, int64_t n_kv, Carver& carve)
      : rows(of),
        scores(of, packed, n_kv, carve),
        s(carve.floats(kRowBlock * kStepKeys)),
        top(carve.floats(kRowBlock)),
        sum(carve.floats(kRowBlock * 16)),
        factor(score_factor(of.scale, of.softcap)) {
    for (int r = 0; r < rows.rows; ++r) end = rows.visible[r] > end ? rows.visible[r] : end;
    for (int r = 0; r < kRowBlock; ++r) top[r] = kNoTop;
    for (int i = 0; i < kRowBlock * 16; ++i) sum[i] = 0;
  }

  // s of keys begin and on, -inf where a row must not see them; rows that see none are left out
  // unless `all`.
  void step(int64_t begin, bool all) const {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    scores(begin, s);
    finish_scores(s, kStepKeys, rows.scale, rows.softcap);
    for (int r = 0; r < rows.rows; ++r) {
      const int64_t shown = rows.visible[r] - begin;
      if (shown >= kStepKeys || (shown <= 0 && !all)) continue;
      for (int64_t x = shown > 0 ? shown / 16 * 16 : 0; x < kStepKeys; x += 16) {
        const __mmask16 hidden = _mm512_cmpge_epi32_mask(
            lanes, _mm512_set1_epi32(static_cast<int32_t>(shown > x ? shown - x : 0)));
        _mm512_mask_storeu_ps(s + r * kStepKeys + x, hidden, _mm512_set1_ps(kNegativeInfinity));
      }
    }
  }
  // All steps; keep(begin) is called with the step's scores in s and `top` as it was for them.
  template <class Keep>
  void run(bool all, const Keep& keep) const {
    for (int64_t begin = 0; begin < end; begin += kStepKeys) {
      step(begin, all);
      float shrink = 0;  // no output to rescale
      for (int r = 0; r < rows.rows; ++r)
        if (begin < rows.visible[r])
          (void)softmax_row<false>(s + r * kStepKeys, kStepKeys, factor, top + r, sum + r * 16,
                                   nullptr, &shrink);
      keep(begin);
    }
    for (int r = 0; r < rows.rows; ++r) {
      float total = 0;
      for (int lane = 0; lane < 16; ++lane) total += sum[r * 16 + lane];
      top[r] += __builtin_log2f(total);
    }
  }
};

// One row of a step of scores, s * factor - top = log2(p), as probabilities.
MI_INLINE void put_probabilities(const float* s, int64_t keys, float factor, float top, float* p) {
  for (int64_t x = 0; x < keys; x += 16) {
    const auto mask = static_cast<__mmask16>(keys - x >= 16 ? 0xffff : (1 << (keys - x)) - 1);
    const __m512 value = exp2_coarse(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(mask, s + x),
                                                     _mm512_set1_ps(factor), _mm512_set1_ps(top)));
    _mm512_mask_storeu_ps(p + x, mask, value);
  }
}
