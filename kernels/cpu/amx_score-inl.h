// The products of scoring by tiles, for q, k and v that are bf16 numbers held as f32.
// Probabilities, differences and W W^T are split in two bf16 parts each, so that products are good
// to 2^-16 and scores compare with those of WideProducts. Included after amx_tiles-inl.h and
// score-inl.h.
//
// All three have the form C [n, 64 rows] (+)= A B with query rows as columns, so nothing is
// transposed but V: a quarter of the time of the f32 products at d = 64.

MI_INLINE __m512 widened(__m256i half) {
  return (__m512)_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, half), 16);
}

// One part of two rows of 16 numbers as pairs; the rows keep what is left of them.
MI_INLINE __m512i take_pairs(__m512& first, __m512& second) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
  first -= widened(_mm512_maskz_extracti64x4_epi64(0xf, both, 0));
  second -= widened(_mm512_maskz_extracti64x4_epi64(0xf, both, 1));
  return _mm512_maskz_permutexvar_epi16(~uint32_t{0}, order, both);
}

// Rows of f32 in two parts of bf16, columns past dim zero: [rows, padded(dim)] each.
MI_INLINE void split_row(const float* from, int dim, bf16* high, bf16* low) {
  for (int x = 0; x < padded(dim); x += 16) {
    const int left = dim - x;
    const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
    const __m512 value = _mm512_maskz_loadu_ps(mask, from + x);
    const __m256i part = (__m256i)_mm512_cvtneps_pbh(value);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + x), part);
    if (low == nullptr) continue;
    const __m512 rest = value - widened(part);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + x), (__m256i)_mm512_cvtneps_pbh(rest));
  }
}

struct TileProducts {
  static constexpr int kPairRow = 2 * kRowBlock;  // elements of one pair of rows of B
  const ScoreBlock& block;
  int dim, wide;
  bf16* query;       // two units of 32 rows, as keys are packed
  bf16* keys;        // [64, wide]
  bf16* pairs;       // [2 parts][max(64, wide) / 2][64][2]
  bf16* values;      // [32 pairs][wide][2], then transposed
  bf16* turned;      // [wide, 64 keys]
  bf16* gram;        // [2 parts][wide, wide]
  int64_t part = 0;  // elements of one part of pairs

  static int width(int dim) { return padded(dim); }
  static int64_t scratch_floats(int dim) {
    const int64_t wide = padded(dim);
    const int64_t most = wide > kKeyTile ? wide : kKeyTile;
    return kRowBlock * wide + most * kRowBlock + 2 * kKeyTile * wide / 2 + wide * wide + 6 * 16;
  }
  TileProducts(const ScoreBlock& of, Carver& carve)
      : block(of), dim(of.head.head_dim), wide(padded(dim)) {
    static constexpr TileConfig kConfig;
    const int64_t most = wide > kKeyTile ? wide : kKeyTile;
    part = most / 2 * kPairRow;
    const auto carved = [&](int64_t elements) {
      return reinterpret_cast<bf16*>(carve.floats(elements / 2));
    };
    query = carved(int64_t{kRowBlock} * wide);
    keys = carved(int64_t{kRowBlock} * wide);
    pairs = carved(2 * part);
    values = carved(int64_t{kKeyTile} * wide);
    turned = carved(int64_t{kKeyTile} * wide);
    gram = carved(int64_t{2} * wide * wide);
    const AttentionHead& head = block.head;
    const int rows = head.rows(block.block);
    const bf16* pointers[kRowBlock];
    for (int r = 0; r < kRowBlock; ++r) {
      pointers[r] = keys + int64_t{r} * wide;
      if (r < rows) {
        split_row(head.q + (head.first_row(block.block) + r) * head.q_stride, dim,
                  keys + int64_t{r} * wide, nullptr);
      } else {
        for (int x = 0; x < wide; ++x) keys[int64_t{r} * wide + x] = {};
      }
    }
    for (int half = 0; half < 2; ++half)
      pack_unit_keys(pointers + half * kUnitKeys, wide, query + half * unit_elements(dim));
    for (int64_t i = 0; block.gram != nullptr && i < int64_t{2} * wide * wide; ++i) gram[i] = {};
    for (int64_t x = 0; block.gram != nullptr && x < dim; ++x)
      split_row(block.gram + x * dim, dim, gram + x * wide, gram + (wide + x) * wide);
    _tile_loadconfig(&kConfig);
  }
  ~TileProducts() { _tile_release(); }
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  void scores(int64_t begin, int count, float* s) const {
    const AttentionHead& head = block.head;
    for (int t = 0; t < count; ++t)
      split_row(head.k + (begin + t) * head.k_stride, dim, keys + int64_t{t} * wide, nullptr);
    memory_fence();
    for (int t = 0; t < count; t += 32)
      for (int half = 0; half < 2; ++half)
        score_tile(keys + int64_t{t} * wide, wide, query + half * unit_elements(dim),
                   s + t * kRowBlock + half * 32, kRowBlock, [] {});
    memory_fence();
  }

  // c [32, 32] += a [32, 32] b for one part of b: 16 pairs of its rows.
  MI_INLINE static void multiply_pairs(const bf16* a, int64_t a_stride, const bf16* b) {
    constexpr int64_t kBytes = kPairRow * 2;
    _tile_loadd(4, a, a_stride * 2);
    _tile_loadd(6, b, kBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 32, kBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + 16 * a_stride, a_stride * 2);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  // Rows first and second of B, in both parts.
  MI_INLINE void put_pairs(const float* first, const float* second, int pair) const {
    for (int r = 0; r < kRowBlock; r += 16) {
      __m512 a = _mm512_loadu_ps(first + r);
      __m512 b = second != nullptr ? _mm512_loadu_ps(second + r) : _mm512_setzero_ps();
      bf16* out = pairs + int64_t{pair} * kPairRow + 2 * r;
      _mm512_storeu_si512(out, take_pairs(a, b));
      _mm512_storeu_si512(out + part, take_pairs(a, b));
    }
  }

  void add_values(const int32_t* order, int count, const float* p, float* out) const {
    const int steps = count > 32 ? 2 : 1;  // of 32 keys
    for (int pair = 0; pair < 16 * steps; ++pair) {
      bf16* row = values + int64_t{pair} * 2 * wide;
      if (2 * pair >= count) {
        for (int i = 0; i < 2 * kPairRow / 32; ++i) {
          bf16* to = pairs + int64_t{pair} * kPairRow + i % 4 * 32 + (i / 4) * part;
          _mm512_storeu_si512(to, _mm512_setzero_si512());
        }
        for (int x = 0; x < wide; x += 16) _mm512_storeu_si512(row + 2 * x, _mm512_setzero_si512());
        continue;
      }
      const int64_t a = order[2 * pair];
      const bool alone = 2 * pair + 1 == count;
      const int64_t b = alone ? a : order[2 * pair + 1];
      put_pairs(p + a * kRowBlock, alone ? nullptr : p + b * kRowBlock, pair);
      for (int x = 0; x < wide; x += 16) {
        const int left = dim - x;
        const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff
                                                 : left > 0 ? (1 << left) - 1
                                                            : 0);
        __m512 first = _mm512_maskz_loadu_ps(mask, block.head.v + a * block.head.v_stride + x);
        __m512 second = _mm512_maskz_loadu_ps(mask, block.head.v + b * block.head.v_stride + x);
        _mm512_storeu_si512(row + 2 * x, take_pairs(first, second));
      }
    }
    for (int step = 0; step < steps; ++step) {
      const bf16* rows[16];
      for (int i = 0; i < 16; ++i) rows[i] = values + int64_t{step * 16 + i} * 2 * wide;
      for (int x = 0; x < wide; x += 16)
        transpose_pairs(rows, 2 * x, 2 * wide, turned + int64_t{x} * kKeyTile + step * 32,
                        kKeyTile);
    }
    memory_fence();
    for (int x = 0; x < wide; x += 32)
      for (int r = 0; r < kRowBlock; r += 32) {
        float* c = out + int64_t{x} * kRowBlock + r;
        load_c(c, kRowBlock);
        for (int step = 0; step < steps; ++step)
          for (int i = 0; i < 2; ++i)
            multiply_pairs(turned + int64_t{x} * kKeyTile + step * 32, kKeyTile,
                           pairs + i * part + int64_t{step} * 16 * kPairRow + 2 * r);
        store_c(c, kRowBlock);
      }
    memory_fence();
  }

  void project(const float* difference, float* projected) const {
    for (int pair = 0; pair < wide / 2; ++pair)
      put_pairs(difference + int64_t{2} * pair * kRowBlock,
                difference + int64_t{2 * pair + 1} * kRowBlock, pair);
    memory_fence();
    for (int x = 0; x < wide; x += 32)
      for (int r = 0; r < kRowBlock; r += 32) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < wide; k += 32) {
          const bf16* high = gram + int64_t{x} * wide + k;
          const bf16* b = pairs + int64_t{k} / 2 * kPairRow + 2 * r;
          multiply_pairs(high, wide, b);
          multiply_pairs(high, wide, b + part);
          multiply_pairs(high + int64_t{wide} * wide, wide, b);
        }
        store_c(projected + int64_t{x} * kRowBlock + r, kRowBlock);
      }
    memory_fence();
  }
};
