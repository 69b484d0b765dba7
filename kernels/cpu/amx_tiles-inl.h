// Tile products of bf16 attention and the packed form of K and V. Included inside the AMX region
// after bf16_pairs-inl.h.
//
// tdpbf16ps: 16 cycles for 16 x 16 x 32 (1024 FLOP per cycle); tileloadd: 8 cycles from L1, free
// beside it as long as each product needs no more than one; tilestored: 16 cycles or more. So every
// block keeps 2 x 2 accumulators (tiles 0-3) and loads two tiles of A (4, 5) and two of B (6, 7).
//
// B tiles hold pairs of the summed index: dims for S = Q K^T, keys for O += P V. A unit of 32 keys
// is
//   K: [2 groups of 16 keys][dim / 32] tiles of [16 pairs of dims][16 keys][2]
//   V: [dim / 32][2] tiles of [16 pairs of keys][16 dims][2]
// with dim padded to 32 by zeros. The two V tiles of 32 dims hold the low and the high half of each
// group of 8 (what vpunpck gives); so do the columns of O, until they are written.

inline constexpr int kUnitKeys = 32;
inline constexpr int kTileElements = 16 * 32;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// g++ 12's tile loads do not clobber memory: without this, stores before them may move or vanish.
MI_INLINE void memory_fence() {
  asm volatile("" ::: "memory");
}

// Elements of one unit of K, and of V.
inline int64_t unit_elements(int dim) {
  return static_cast<int64_t>(kUnitKeys) * padded(dim);
}

MI_INLINE void load_c(const float* c, int64_t stride) {
  const int64_t bytes = stride * 4;
  _tile_loadd(0, c, bytes);
  _tile_loadd(1, c + 16, bytes);
  _tile_loadd(2, c + 16 * stride, bytes);
  _tile_loadd(3, c + 16 * stride + 16, bytes);
}
MI_INLINE void store_c(float* c, int64_t stride) {
  const int64_t bytes = stride * 4;
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + 16, bytes);
  _tile_stored(2, c + 16 * stride, bytes);
  _tile_stored(3, c + 16 * stride + 16, bytes);
}
// C [32, 32] += A [32, 32] B [32, 32]; the two tiles of B start at b0 and b1.
MI_INLINE void multiply(const bf16* a, int64_t a_stride, const bf16* b0, const bf16* b1) {
  _tile_loadd(4, a, a_stride * 2);
  _tile_loadd(6, b0, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b1, 64);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + 16 * a_stride, a_stride * 2);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// s [32, 32] = q [32, dim] k^T for one unit of keys; `beside` is called with every product, for
// other ports to work.
template <class Beside>
MI_INLINE void score_tile(const bf16* q, int dim, const bf16* k, float* s, int64_t s_stride,
                          const Beside& beside) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t group = static_cast<int64_t>(16) * dim;
  for (int x = 0; x < dim; x += kPanel) {
    multiply(q + x, dim, k + x * 16, k + group + x * 16);
    beside();
  }
  store_c(s, s_stride);
}

// One panel of 32 dims: o [32, 32] += p [32, units * 32] v.
template <class Units, class Beside>
MI_INLINE void output_tile(const bf16* p, int64_t p_stride, const Units& units, int count,
                           int panel, int dim, float* o, const Beside& beside) {
  load_c(o, dim);
  for (int i = 0; i < count; ++i) {
    const bf16* v = units[i].v + panel * 2 * kTileElements;
    multiply(p + i * kUnitKeys, p_stride, v, v + kTileElements);
    beside();
  }
  store_c(o, dim);
}

inline __mmask32 panel_mask(int first_dim, int dim) {
  const int left = dim - first_dim;
  return left >= kPanel ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
}

// One unit of 32 keys anywhere in memory: k, v [32] row pointers.
inline void pack_unit_keys(const bf16* const* k, int dim, bf16* out) {
  for (int group = 0; group < 2; ++group)
    for (int x = 0; x < dim; x += kPanel, out += kTileElements)
      transpose_pairs(k + group * 16, x, dim, out, 32);
}
inline void pack_unit_values(const bf16* const* v, int dim, bf16* out) {
  for (int x = 0; x < dim; x += kPanel, out += 2 * kTileElements) {
    const __mmask32 mask = panel_mask(x, dim);
    for (int pair = 0; pair < 16; ++pair) {
      const __m512i even = _mm512_maskz_loadu_epi16(mask, v[2 * pair] + x);
      const __m512i odd = _mm512_maskz_loadu_epi16(mask, v[2 * pair + 1] + x);
      _mm512_store_si512(out + pair * 32, _mm512_unpacklo_epi16(even, odd));
      _mm512_store_si512(out + kTileElements + pair * 32, _mm512_unpackhi_epi16(even, odd));
    }
  }
}

// Packed form of a KV head: all units of K, then all of V; units of whole tiles of 64 keys.
struct PackedRows {
  const bf16* k;
  const bf16* v;
  PackedRows(const std::byte* packed, int dim, int64_t n_kv)
      : k(reinterpret_cast<const bf16*>(packed)),
        v(k + (n_kv + kKeyTile - 1) / kKeyTile * 2 * unit_elements(dim)) {}
};
