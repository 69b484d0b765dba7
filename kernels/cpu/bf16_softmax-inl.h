// Softmax of score rows whose lanes are keys, as fine as bf16 probabilities need it. Included after
// attention-inl.h in a region with AVX-512 BF16.

// A row's reference maximum may lag this far (in powers of two) behind the true one: P stays far
// from bf16's limits, and O is rescaled almost never.
inline constexpr float kSlack = 8;

// 2^x, x <= kSlack, relative error 7.5e-5 (bf16 rounds by 2e-3); 0 for -inf.
MI_INLINE __m512 exp2_coarse(__m512 x) {
  const __m512 r = _mm512_maskz_reduce_ps(0xffff, x, 1);  // x - floor(x)
  __m512 poly = _mm512_fmadd_ps(_mm512_set1_ps(0.07802452f), r, _mm512_set1_ps(0.22606716f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.69583351f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.99992521f));
  return _mm512_maskz_scalef_ps(0xffff, poly, x);
}

// One row: p = 2^(s * factor - top), unless only its sum is wanted; true when top rose, by *shrink
// in powers of two.
template <bool kKeep = true>
MI_INLINE bool softmax_row(const float* s, int keys, float factor, float* top, float* sum, bf16* p,
                           float* shrink) {
  __m512 highest = _mm512_loadu_ps(s);
  for (int x = 16; x < keys; x += 16)
    highest = _mm512_mask_max_ps(highest, 0xffff, highest, _mm512_loadu_ps(s + x));
  const __m512 scale = _mm512_set1_ps(factor);
  __m512 reference = _mm512_set1_ps(*top);
  __m512 total = _mm512_load_ps(sum);
  const __mmask16 over =
      _mm512_cmp_ps_mask(highest * scale, reference + _mm512_set1_ps(kSlack), _CMP_GT_OQ);
  const bool rose = over != 0;
  if (__builtin_expect(static_cast<int>(rose), 0) != 0) {
    alignas(64) float lanes[16];
    _mm512_store_ps(lanes, highest * scale);
    float new_top = *top;
    for (float lane : lanes) new_top = lane > new_top ? lane : new_top;
    *shrink = __builtin_exp2f(*top - new_top);
    *top = new_top;
    reference = _mm512_set1_ps(new_top);
    total *= _mm512_set1_ps(*shrink);
  }
  for (int x = 0; x < keys; x += 32) {
    const __m512 a = exp2_coarse(_mm512_fmsub_ps(_mm512_loadu_ps(s + x), scale, reference));
    const __m512 b = exp2_coarse(_mm512_fmsub_ps(_mm512_loadu_ps(s + x + 16), scale, reference));
    total += a + b;
    if (kKeep) _mm512_store_si512(p + x, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  }
  _mm512_store_ps(sum, total);
  return rose;
}
