// bf16 attention of one row block by dot products of bf16 pairs: attend_keys() of attention-inl.h
// over pairs of dims for S^T = K Q^T and over pairs of keys for O^T += V^T P^T. Included after
// attention-inl.h and isa_avx512_bf16-inl.h.

// Packed form of a KV head: K [n_kv, dim] without its strides, then V by pairs of keys,
// [n_kv / 2][dim][2]. A pair that a tile takes as it lies there is read in place. Any other two
// keys are interleaved from the rows: five instructions per 16 dims beside 128 dot products of 64
// query rows. A key is never read from a pair that n_kv cuts in two.
struct PackedPairs {
  const bf16* k;
  const bf16* v;
  PackedPairs(const std::byte* packed, int dim, int64_t n_kv)
      : k(reinterpret_cast<const bf16*>(packed)), v(k + n_kv * dim) {}
  static int64_t elements(int dim, int64_t n_kv) { return (n_kv + n_kv / 2 * 2) * dim; }
};

// out [dim][2] from two rows; dims come in eights.
inline void interleave(const bf16* first, const bf16* second, int dim, bf16* out) {
  for (int x = 0; x < dim; x += 16) {
    const auto mask = static_cast<__mmask16>(dim - x >= 16 ? 0xffff : 0xff);
    const auto load = [&](const bf16* row) {
      return _mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, row + x));
    };
    const __m512i both = load(first) | _mm512_maskz_slli_epi32(mask, load(second), 16);
    _mm512_mask_storeu_epi32(out + 2 * x, mask, both);
  }
}

inline void pack_pairs(const KeyValueRows& rows, int64_t tile, std::byte* packed) {
  const int dim = rows.head_dim;
  const PackedPairs out(packed, dim, rows.n_kv);
  const int64_t end = rows.n_kv < (tile + 1) * kKeyTile ? rows.n_kv : (tile + 1) * kKeyTile;
  for (int64_t key = tile * kKeyTile; key < end; ++key) {
    __builtin_memcpy(const_cast<bf16*>(out.k) + key * dim, rows.k + key * rows.k_stride,
                     static_cast<size_t>(dim) * sizeof(bf16));
    if (rows.v == nullptr || key % 2 == 0) continue;
    const bf16* v = rows.v + key * rows.v_stride;
    interleave(v - rows.v_stride, v, dim, const_cast<bf16*>(out.v) + (key - 1) * dim);
  }
}

// Rows [count, dim] as pairs of dims by lanes: [padded(dim) / 2][64][2]. Lanes past `count` repeat
// the last row.
inline void pack_lane_pairs(const bf16* rows, int64_t stride, int count, int dim, bf16* packed) {
  for (int r = 0; r < kRowBlock; r += 16) {
    const bf16* row[16];
    for (int i = 0; i < 16; ++i) row[i] = rows + (r + i < count ? r + i : count - 1) * stride;
    for (int x = 0; x < dim; x += kPanel)
      transpose_pairs(row, x, dim, packed + x * kRowBlock + 2 * r, 2 * kRowBlock);
  }
}

// Two rows of 16 rounded to bf16 as pairs.
MI_INLINE __m512i pairs_of(Vec first, Vec second) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(~uint32_t{0}, order,
                                        (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

// As fine as bf16 needs it; leaves p as pairs of keys by lanes, [count / 2][64][2].
struct PairedSoftmax {
  static MI_INLINE Vec exp2(Vec x) { return exp2_coarse(x); }
  static MI_INLINE void put(float* s, int t, Vec first, Vec second) {
    _mm512_storeu_si512(s + t / 2 * kRowBlock, pairs_of(first, second));
  }
};

// One head's input; q as of pack_lane_pairs.
struct PairedRows {
  const KeyValueRows& rows;
  PackedPairs packed;
  const bf16* q;
  bf16* paired;  // [kAttendKeys / 2][dim][2]

  using Softmax = PairedSoftmax;
  void score(const int32_t* keys, int count, float* s) const {
    const Bf16Pair* row[kAttendKeys];
    for (int t = 0; t < count; ++t)
      row[t] = reinterpret_cast<const Bf16Pair*>(packed.k + keys[t] * int64_t{rows.head_dim});
    tile_product<true>(row, count, rows.head_dim / 2, reinterpret_cast<const Bf16Pair*>(q), s);
  }
  void add_output(const int32_t* keys, int count, const float* p, float* out) const {
    const int dim = rows.head_dim;
    const int pairs = (count + 1) / 2;
    const Bf16Pair* row[kAttendKeys / 2];
    for (int i = 0; i < pairs; ++i) {
      const int64_t key = keys[2 * i];
      // A last key without a neighbour is paired with itself, whose second p is 0.
      const int64_t next = 2 * i + 1 < count ? keys[2 * i + 1] : key;
      const bf16* pair = packed.v + key * dim;
      if (key % 2 != 0 || next != key + 1) {
        pair = paired + static_cast<int64_t>(i) * 2 * dim;
        interleave(rows.v + key * rows.v_stride, rows.v + next * rows.v_stride, dim,
                   paired + static_cast<int64_t>(i) * 2 * dim);
      }
      row[i] = reinterpret_cast<const Bf16Pair*>(pair);
    }
    tile_product<false>(row, dim, pairs, reinterpret_cast<const Bf16Pair*>(p), out);
  }
};

// o = O / sum in bf16: pairs of dims by lanes, transposed.
inline void write_output(const BlockState& state, int rows, int dim, bf16* o, int64_t o_stride) {
  for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
    const Vec sum = Isa::load(state.sum + r);
    const Vec inverse = sum > Isa::set1(0.0f) ? Isa::set1(1.0f) / sum : Isa::set1(0.0f);
    for (int k = 0; k < dim; k += 2) {
      const float* from = state.out + k * kRowBlock + r;
      _mm512_storeu_si512(
          state.out + k / 2 * kRowBlock + r,
          pairs_of(Isa::load(from) * inverse, Isa::load(from + kRowBlock) * inverse));
    }
  }
  const auto* pairs = reinterpret_cast<const bf16*>(state.out);
  alignas(64) bf16 block[16 * 32];
  for (int x = 0; x < dim; x += 32) {
    const bf16* row[16];
    const int columns = dim - x < 32 ? dim - x : 32;
    for (int i = 0; i < 16; ++i)
      row[i] = pairs + (x / 2 + (2 * i < columns ? i : 0)) * kRowBlock * 2;
    const __mmask32 mask = columns == 32 ? ~uint32_t{0} : (uint32_t{1} << columns) - 1;
    for (int r = 0; r < rows; r += 16) {
      transpose_pairs(row, 2 * r, 2 * kRowBlock, block, 32);
      for (int i = 0; i < 16 && r + i < rows; ++i)
        _mm512_mask_storeu_epi16(o + (r + i) * o_stride + x, mask,
                                 _mm512_load_si512(block + i * 32));
    }
  }
}

inline void attend_pairs(const PackedGroup& group, void* scratch) {
  const AttentionHead shape = group.shape();
  const int dim = shape.head_dim;
  for (HeadBlock& part : group.blocks) {
    const int rows = shape.rows(part.block);
    const int64_t first = shape.first_row(part.block);
    Carver carve{static_cast<char*>(scratch)};
    auto* q = reinterpret_cast<bf16*>(carve.floats(int64_t{kRowBlock} * padded(dim) / 2));
    auto* paired = reinterpret_cast<bf16*>(carve.floats(int64_t{dim} / 2 * kAttendKeys));
    const BlockState state(carve, dim);
    pack_lane_pairs(part.q + first * group.q_stride, group.q_stride, rows, dim, q);
    const PairedRows input{group.rows, {group.packed, dim, shape.n_kv}, q, paired};
    part.tiles = attend_keys(input, shape, part.block, part.keys, state);
    write_output(state, rows, dim, part.o + first * group.o_stride, group.o_stride);
    if (part.lse != nullptr) state.write_lse(rows, part.lse + first);
  }
}

inline int64_t pair_scratch_floats(int dim) {
  return int64_t{kRowBlock} * padded(dim) / 2 + int64_t{dim} / 2 * kAttendKeys +
         BlockState::floats(dim);
}
