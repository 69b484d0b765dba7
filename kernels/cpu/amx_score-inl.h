// The products of scoring by tiles, of bf16 keys and values. Probabilities, differences and W W^T
// are split in two bf16 parts each, so that products are good to 2^-15 and scores compare with
// those of WideProducts. Included after amx_tiles-inl.h and score-inl.h.
//
// All three have the form C [n, 64 rows] (+)= A B with query rows as columns, so that keys are A as
// they lie and nothing is transposed but V. Dims of outputs are in the order of unpacked halves.

// 2^x, relative error 2.6e-6; 0 for -inf.
MI_INLINE __m512 exp2_fine(__m512 x) {
  const __m512 r = _mm512_maskz_reduce_ps(0xffff, x, 1);  // x - floor(x)
  __m512 poly = _mm512_fmadd_ps(_mm512_set1_ps(0.0135341679f), r, _mm512_set1_ps(0.0520114606f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.241442757f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.693003834f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(1.00000259f));
  return _mm512_maskz_scalef_ps(0xffff, poly, x);
}

// 32 numbers in two bf16 parts, the first cut off so that the rest is exact. In such an order that
// unpacking two rows gives pairs of the first 16 numbers, then of the others.
struct SplitRow {
  __m512i high, low;
  static MI_INLINE __m512 cut(__m512 x) {
    return (__m512)((__m512i)x & _mm512_set1_epi32(static_cast<int32_t>(0xffff0000)));
  }
  static MI_INLINE __m512i part(__m512 a, __m512 b) {
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    return _mm512_maskz_permutexvar_epi64(0xff, order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  }
  MI_INLINE explicit SplitRow(const float* from) {
    const __m512 a = _mm512_loadu_ps(from);
    const __m512 b = _mm512_loadu_ps(from + 16);
    high = part(cut(a), cut(b));
    low = part(a - cut(a), b - cut(b));
  }
};
// Pairs of two rows so ordered: out [2 groups of 16][16 pairs].
MI_INLINE void put_pairs(__m512i first, __m512i second, bf16* out) {
  _mm512_storeu_si512(out, _mm512_maskz_unpacklo_epi16(~uint32_t{0}, first, second));
  _mm512_storeu_si512(out + 32, _mm512_maskz_unpackhi_epi16(~uint32_t{0}, first, second));
}

struct TileProducts {
  static constexpr int kStepKeys = 128;  // a step's pairs and values stay in L2, some in L1
  static constexpr int kPairRow = 2 * kRowBlock;  // elements of one pair of rows of B
  static constexpr int kKeyRow = 2 * kRowBlock;   // elements of a key's p: both parts
  const ScoreBlock& block;
  int dim, wide;
  bf16* query;       // two units of 32 rows, as keys are packed
  bf16* keys;        // [64, wide]
  float* tile;       // [64, 64] p
  bf16* all_p;       // [keys_end][2 halves of 32 rows][2 parts][32] where errors are scored
  bf16* pairs;       // [2 parts][max(kStepKeys, wide) / 2][64][2]
  bf16* values;      // [kStepKeys / 2][wide][2], then transposed
  bf16* turned;      // [wide, kStepKeys]
  bf16* gram;        // [2 parts][wide, wide]
  int64_t part = 0;  // elements of one part of pairs

  static int width(int dim) { return padded(dim); }
  static int64_t most_pairs(int wide) { return (wide > kStepKeys ? wide : kStepKeys) / 2; }
  static int64_t scratch_floats(int dim, int64_t n_kv) {
    const int64_t wide = padded(dim);
    return kRowBlock * wide + kKeyTile * kRowBlock + (n_kv + kKeyTile) * kRowBlock +
           most_pairs(padded(dim)) * kPairRow + kStepKeys * wide + wide * wide + 8 * 16;
  }
  TileProducts(const ScoreBlock& of, Carver& carve)
      : block(of), dim(of.head.head_dim), wide(padded(dim)) {
    static constexpr TileConfig kConfig;
    part = most_pairs(wide) * kPairRow;
    const auto carved = [&](int64_t elements) {
      return reinterpret_cast<bf16*>(carve.floats(elements / 2));
    };
    const AttentionHead& head = block.head;
    query = carved(int64_t{kRowBlock} * wide);
    keys = carved(int64_t{kRowBlock} * wide);
    tile = carve.floats(kKeyTile * kRowBlock);
    pack_query();
    _tile_loadconfig(&kConfig);
    if (block.gram == nullptr) return;
    all_p = carved(head.keys_end(block.block) * kKeyRow);
    pairs = carved(2 * part);
    values = carved(int64_t{kStepKeys} * wide);
    turned = carved(int64_t{kStepKeys} * wide);
    gram = carved(int64_t{2} * wide * wide);
    split_gram();
  }
  ~TileProducts() { _tile_release(); }
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  void pack_query() const {
    const AttentionHead& head = block.head;
    const int rows = head.rows(block.block);
    const bf16* pointers[kRowBlock];
    for (int r = 0; r < kRowBlock; ++r) {
      bf16* row = keys + int64_t{r} * wide;
      pointers[r] = row;
      for (int x = 0; x < wide; ++x)
        row[x] = r < rows && x < dim
                     ? to_bf16(head.q[(head.first_row(block.block) + r) * head.q_stride + x])
                     : bf16{};
    }
    for (int half = 0; half < 2; ++half)
      pack_unit_keys(pointers + half * kUnitKeys, wide, query + half * unit_elements(dim));
  }
  // Which dim is row x of an output: halves of unpacked groups of 8.
  static int dim_of(int x) { return x / 32 * 32 + x % 16 / 4 * 8 + x % 32 / 16 * 4 + x % 4; }
  void split_gram() const {
    for (int x = 0; x < wide; ++x)
      for (int y = 0; y < wide; ++y) {
        const int from = dim_of(x);
        const int to = dim_of(y);
        const float value = from < dim && to < dim ? block.gram[int64_t{from} * dim + to] : 0.0f;
        bf16* high = gram + int64_t{x} * wide + y;
        *high = to_bf16(value);
        high[int64_t{wide} * wide] = to_bf16(value - to_float(*high));
      }
  }

  const float* probabilities(int64_t begin, int count, const float* shift) const {
    const AttentionHead& head = block.head;
    const bf16* from = block.rows.k + begin * block.rows.k_stride;
    int64_t stride = block.rows.k_stride;
    if (dim < wide || count < kKeyTile) {  // tiles read whole rows of whole tiles
      copy_query(from, stride, count, dim, keys);
      from = keys;
      stride = wide;
    }
    memory_fence();
    for (int t = 0; t < count; t += 32)
      for (int half = 0; half < 2; ++half)
        key_scores(from + t * stride, stride, query + half * unit_elements(dim),
                   tile + t * kRowBlock + half * 32);
    memory_fence();
    finish_scores(tile, count, head.scale, head.softcap);
    const __m512 factor = _mm512_set1_ps(score_factor(head.scale, head.softcap));
    const int64_t first_limit = head.first_row(block.block) + head.offset();
    for (int r = 0; r < kRowBlock; r += 16) {
      const __m512 less = _mm512_loadu_ps(shift + r);
      for (int t = 0; t < count; ++t) {
        float* p = tile + t * kRowBlock + r;
        _mm512_storeu_ps(p, exp2_fine(_mm512_fmsub_ps(_mm512_loadu_ps(p), factor, less)));
      }
    }
    for (int t = 0; t < count; ++t) hide_key(tile + t * kRowBlock, begin + t - first_limit);
    for (int t = 0; block.gram != nullptr && t < count; ++t) {
      bf16* row = all_p + (begin + t) * kKeyRow;
      for (int half = 0; half < 2; ++half, row += 64) {
        const SplitRow split(tile + t * kRowBlock + half * 32);
        _mm512_storeu_si512(row, split.high);
        _mm512_storeu_si512(row + 32, split.low);
      }
    }
    return tile;
  }

  // Keys past the first row's limit are hidden from rows before them.
  MI_INLINE static void hide_key(float* p, int64_t past) {
    for (int r = 0; r < kRowBlock && r < past; r += 16) {
      const int64_t hidden = past - r;
      const auto shown = static_cast<__mmask16>(hidden >= 16 ? 0 : 0xffff << hidden);
      _mm512_storeu_ps(p + r, _mm512_maskz_loadu_ps(shown, p + r));
    }
  }

  // s [32 keys, 32 rows of a query unit].
  MI_INLINE void key_scores(const bf16* k, int64_t k_stride, const bf16* q, float* s) const {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const int64_t group = int64_t{16} * wide;
    for (int x = 0; x < wide; x += kPanel)
      multiply(k + x, k_stride, q + x * 16, q + group + x * 16);
    store_c(s, kRowBlock);
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

  // A pair of keys, the second null where there is none, in both parts; mass [64] += their p.
  MI_INLINE void put_key_pair(const bf16* first, const bf16* second, int pair,
                              __m512 (&mass)[4]) const {
    const __m512i ones = _mm512_set1_epi32(0x3f803f80);
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 2; ++i) {
        const int64_t at = half * 64 + i * 32;
        const __m512i a = _mm512_loadu_si512(first + at);
        const __m512i b =
            second != nullptr ? _mm512_loadu_si512(second + at) : _mm512_setzero_si512();
        const __m512i low = _mm512_maskz_unpacklo_epi16(~uint32_t{0}, a, b);
        const __m512i high = _mm512_maskz_unpackhi_epi16(~uint32_t{0}, a, b);
        bf16* out = pairs + i * part + int64_t{pair} * kPairRow + half * 64;
        _mm512_storeu_si512(out, low);
        _mm512_storeu_si512(out + 32, high);
        mass[2 * half] = _mm512_dpbf16_ps(mass[2 * half], (__m512bh)low, (__m512bh)ones);
        mass[2 * half + 1] = _mm512_dpbf16_ps(mass[2 * half + 1], (__m512bh)high, (__m512bh)ones);
      }
  }
  MI_INLINE void put_value_pair(const bf16* first, const bf16* second, bf16* row) const {
    for (int x = 0; x < wide; x += 32) {
      const __mmask32 mask = panel_mask(x, dim);
      put_pairs(_mm512_maskz_loadu_epi16(mask, first + x),
                _mm512_maskz_loadu_epi16(mask, second + x), row + 2 * x);
    }
  }

  void add_values(const int32_t* order, int count, float* out, float* sums) const {
    const int steps = (count + 31) / 32;
    // Keys of a level lie anywhere in more than L2 holds.
    const auto fetch = [&](int at) {
      if (at >= count) return;
      const auto line = [](const bf16* row, int64_t x) { __builtin_prefetch(row + x, 0, 2); };
      for (int64_t x = 0; x < kKeyRow; x += 32) line(all_p + order[at] * kKeyRow, x);
      for (int64_t x = 0; x < dim; x += 32) line(block.rows.v + order[at] * block.rows.v_stride, x);
    };
    for (int i = 0; i < 16; ++i) fetch(i);
    __m512 mass[4];
    for (int i = 0; i < 4; ++i) mass[i] = _mm512_loadu_ps(sums + 16 * i);
    for (int pair = 0; pair < 16 * steps; ++pair) {
      bf16* row = values + int64_t{pair} * 2 * wide;
      if (2 * pair >= count) {
        for (int i = 0; i < 8; ++i)
          _mm512_storeu_si512(pairs + int64_t{pair} * kPairRow + i % 4 * 32 + i / 4 * part,
                              _mm512_setzero_si512());
        for (int x = 0; x < wide; x += 16) _mm512_storeu_si512(row + 2 * x, _mm512_setzero_si512());
        continue;
      }
      fetch(2 * pair + 16);
      fetch(2 * pair + 17);
      const bool alone = 2 * pair + 1 == count;
      const int64_t a = order[2 * pair];
      const int64_t b = alone ? a : order[2 * pair + 1];
      put_key_pair(all_p + a * kKeyRow, alone ? nullptr : all_p + b * kKeyRow, pair, mass);
      put_value_pair(block.rows.v + a * block.rows.v_stride, block.rows.v + b * block.rows.v_stride,
                     row);
    }
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(sums + 16 * i, mass[i]);
    for (int step = 0; step < steps; ++step) {
      const bf16* rows[16];
      for (int i = 0; i < 16; ++i) rows[i] = values + int64_t{step * 16 + i} * 2 * wide;
      for (int x = 0; x < wide; x += 16)
        transpose_pairs(rows, 2 * x, 2 * wide, turned + int64_t{x} * kStepKeys + step * 32,
                        kStepKeys);
    }
    memory_fence();
    for (int x = 0; x < wide; x += 32)
      for (int r = 0; r < kRowBlock; r += 32) {
        float* c = out + int64_t{x} * kRowBlock + r;
        load_c(c, kRowBlock);
        for (int step = 0; step < steps; ++step)
          for (int i = 0; i < 2; ++i)
            multiply_pairs(turned + int64_t{x} * kStepKeys + step * 32, kStepKeys,
                           pairs + i * part + int64_t{step} * 16 * kPairRow + 2 * r);
        store_c(c, kRowBlock);
      }
    memory_fence();
  }

  void project(const float* difference, float* projected) const {
    for (int pair = 0; pair < wide / 2; ++pair)
      for (int r = 0; r < kRowBlock; r += 32) {
        const SplitRow first(difference + int64_t{2 * pair} * kRowBlock + r);
        const SplitRow second(difference + int64_t{2 * pair + 1} * kRowBlock + r);
        bf16* out = pairs + int64_t{pair} * kPairRow + 2 * r;
        put_pairs(first.high, second.high, out);
        put_pairs(first.low, second.low, out + part);
      }
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
