// Pairs of bf16, the operand of AVX-512's and AMX's dot products. Included inside a region with
// AVX-512 BF16 after tile-inl.h.

inline constexpr int kPanel = 32;  // dims per transposition; per tile of A, and pair of tiles of V
inline int padded(int dim) {
  return (dim + kPanel - 1) / kPanel * kPanel;
}

// Eight columns (16 bytes) of rows b, b + 4, b + 8 and b + 12. Masked broadcasts assemble them from
// memory, which halves the shuffles (all in zeroing forms: g++ 12 warns of the plain ones' own
// undefined operand).
MI_INLINE __m512i four_rows(const bf16* const* rows, int b, int at) {
  const auto eight = [&](int row) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + at));
  };
  __m512i x = _mm512_maskz_broadcast_i32x4(0x000f, eight(b));
  x = _mm512_mask_broadcast_i32x4(x, 0x00f0, eight(b + 4));
  x = _mm512_mask_broadcast_i32x4(x, 0x0f00, eight(b + 8));
  return _mm512_mask_broadcast_i32x4(x, 0xf000, eight(b + 12));
}

// A 16 x 16 transposition of pairs: out[x] = pairs of columns first + 2x, +1 of 16 rows. Columns
// come in eights: what lies at or past `end` is zero. Inlined: as a function of its own it spills.
MI_INLINE void transpose_pairs(const bf16* const* rows, int first, int end, bf16* out,
                               int64_t out_stride) {
#pragma GCC unroll 4
  for (int a = 0; a < 4; ++a) {
    const int at = first + a * 8;
    bf16* row = out + a * 4 * out_stride;
    if (at >= end) {
      for (int i = 0; i < 4; ++i) _mm512_store_si512(row + i * out_stride, _mm512_setzero_si512());
      continue;
    }
    const __m512i x0 = four_rows(rows, 0, at);
    const __m512i x1 = four_rows(rows, 1, at);
    const __m512i x2 = four_rows(rows, 2, at);
    const __m512i x3 = four_rows(rows, 3, at);
    const __m512i low01 = _mm512_maskz_unpacklo_epi32(0xffff, x0, x1);
    const __m512i high01 = _mm512_maskz_unpackhi_epi32(0xffff, x0, x1);
    const __m512i low23 = _mm512_maskz_unpacklo_epi32(0xffff, x2, x3);
    const __m512i high23 = _mm512_maskz_unpackhi_epi32(0xffff, x2, x3);
    _mm512_store_si512(row, _mm512_maskz_unpacklo_epi64(0xff, low01, low23));
    _mm512_store_si512(row + out_stride, _mm512_maskz_unpackhi_epi64(0xff, low01, low23));
    _mm512_store_si512(row + 2 * out_stride, _mm512_maskz_unpacklo_epi64(0xff, high01, high23));
    _mm512_store_si512(row + 3 * out_stride, _mm512_maskz_unpackhi_epi64(0xff, high01, high23));
  }
}
