// Pairs of bf16, the operand of AVX-512's and AMX's dot products. Included inside a region with
// AVX-512 BF16 after tile-inl.h.

// A 16 x 16 transposition of pairs: out[x] = pairs of columns first + 2x, +1 of 16 rows. Masked
// broadcasts assemble 4 x 4 blocks from memory, which halves the shuffles (all in zeroing forms:
// g++ 12 warns of the plain ones' own undefined operand). Columns come in eights: what lies at or
// past `end` is zero.
inline void transpose_pairs(const bf16* const* rows, int first, int end, bf16* out,
                            int64_t out_stride) {
  __m512i block[4][4];
  for (int a = 0; a < 4; ++a) {
    const int at = first + a * 8;
    for (int b = 0; b < 4; ++b) {
      __m512i x = _mm512_setzero_si512();
      if (at < end) {
        const auto eight = [&](int row) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + at));
        };
        x = _mm512_maskz_broadcast_i32x4(0x000f, eight(b));
        x = _mm512_mask_broadcast_i32x4(x, 0x00f0, eight(b + 4));
        x = _mm512_mask_broadcast_i32x4(x, 0x0f00, eight(b + 8));
        x = _mm512_mask_broadcast_i32x4(x, 0xf000, eight(b + 12));
      }
      block[a][b] = x;
    }
  }
  for (int a = 0; a < 4; ++a) {
    const __m512i low01 = _mm512_maskz_unpacklo_epi32(0xffff, block[a][0], block[a][1]);
    const __m512i high01 = _mm512_maskz_unpackhi_epi32(0xffff, block[a][0], block[a][1]);
    const __m512i low23 = _mm512_maskz_unpacklo_epi32(0xffff, block[a][2], block[a][3]);
    const __m512i high23 = _mm512_maskz_unpackhi_epi32(0xffff, block[a][2], block[a][3]);
    bf16* row = out + a * 4 * out_stride;
    _mm512_store_si512(row, _mm512_maskz_unpacklo_epi64(0xff, low01, low23));
    _mm512_store_si512(row + out_stride, _mm512_maskz_unpackhi_epi64(0xff, low01, low23));
    _mm512_store_si512(row + 2 * out_stride, _mm512_maskz_unpacklo_epi64(0xff, high01, high23));
    _mm512_store_si512(row + 3 * out_stride, _mm512_maskz_unpackhi_epi64(0xff, high01, high23));
  }
}
