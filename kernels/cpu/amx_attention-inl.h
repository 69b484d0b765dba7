// bf16 flash attention of one row block by tiles: S = Q K^T (f32), P = 2^(S - top) rounded to bf16,
// O += P V (f32). Included after amx_tiles-inl.h.
//
// A step takes 256 keys: its 64 x 256 scores and probabilities (96 KiB) stay in L2, and O is loaded
// and stored once per step (that costs as much as half of P V's products at 128 keys). Measured at
// d = 128 and rejected: steps of 64 or 128 keys (-20 %, -6 %), 32 rows at a time (-4 %), and
// running the softmax of one step between the products of its neighbours (no gain: tile loads and
// the softmax compete, and the second score buffer costs cache).

inline constexpr int kStepUnits = 8;
// A row's reference maximum may lag this far (in powers of two) behind the true one: P stays far
// from bf16's limits, and O is rescaled almost never.
inline constexpr float kSlack = 8;
inline constexpr float kNoTop = -1e30f;  // finite: -inf - top must not be NaN

struct Unit {
  const bf16* k;
  const bf16* v;
  int32_t first;      // position of a run's first key
  int32_t count;      // of gathered keys: the rest is hidden
  const int32_t* at;  // positions of gathered keys, rising, the rest 0; null for a run
  // Whether a row whose last key is `limit` must not see all of it.
  [[nodiscard]] bool hides_from(int64_t limit) const {
    return at == nullptr ? int64_t{first} + kUnitKeys - 1 > limit
                         : count < kUnitKeys || at[kUnitKeys - 1] > limit;
  }
};

// 2^x, x <= kSlack, relative error 7.5e-5 (bf16 rounds by 2e-3); 0 for -inf.
MI_INLINE __m512 exp2_coarse(__m512 x) {
  const __m512 r = _mm512_maskz_reduce_ps(0xffff, x, 1);  // x - floor(x)
  __m512 poly = _mm512_fmadd_ps(_mm512_set1_ps(0.07802452f), r, _mm512_set1_ps(0.22606716f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.69583351f));
  poly = _mm512_fmadd_ps(poly, r, _mm512_set1_ps(0.99992521f));
  return _mm512_maskz_scalef_ps(0xffff, poly, x);
}

struct HeadState {
  bf16* q;     // [64, dim]
  float* o;    // [64, dim], columns in the order of V's tiles
  float* top;  // [64] reference maximum, base-2 units
  float* sum;  // [64, 16] lanes of the sum of P
  static constexpr int64_t floats(int dim) { return kRowBlock * (dim / 2 + dim + 1 + 16); }
  HeadState() = default;
  HeadState(Carver& carve, int dim)
      : q(reinterpret_cast<bf16*>(carve.floats(kRowBlock * dim / 2))),
        o(carve.floats(kRowBlock * dim)),
        top(carve.floats(kRowBlock)),
        sum(carve.floats(kRowBlock * 16)) {}
};

inline void copy_query(const bf16* q, int64_t stride, int rows, int dim, bf16* out) {
  const int wide = padded(dim);
  for (int r = 0; r < kRowBlock; ++r)
    for (int x = 0; x < wide; x += kPanel) {
      const __mmask32 mask = r < rows ? panel_mask(x, dim) : 0;
      _mm512_store_si512(out + r * wide + x, _mm512_maskz_loadu_epi16(mask, q + r * stride + x));
    }
}

// Hides from row r what lies past its last key, first_limit + r.
inline void mask_unit(const Unit& unit, int64_t first_limit, float* s, int64_t stride) {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (int half = 0; half < kUnitKeys; half += 16) {
    const __m512i past = _mm512_add_epi32(lanes, _mm512_set1_epi32(half));
    const __m512i at = unit.at == nullptr
                           ? _mm512_add_epi32(past, _mm512_set1_epi32(unit.first))
                           : _mm512_mask_blend_epi32(
                                 _mm512_cmpge_epi32_mask(past, _mm512_set1_epi32(unit.count)),
                                 _mm512_loadu_si512(unit.at + half), _mm512_set1_epi32(INT32_MAX));
    for (int r = 0; r < kRowBlock; ++r) {
      const int64_t limit = first_limit + r < INT32_MAX ? first_limit + r : INT32_MAX - 1;
      const __mmask16 hidden =
          _mm512_cmpgt_epi32_mask(at, _mm512_set1_epi32(static_cast<int32_t>(limit)));
      _mm512_mask_storeu_ps(s + r * stride + half, hidden, _mm512_set1_ps(kNegativeInfinity));
    }
  }
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

// Scores in units where softmax_row's factor applies: base 2 unless a positive scale will do that.
inline float score_factor(float scale, float softcap) {
  return softcap == 0 && scale > 0 ? scale * kLog2e : 1.0f;
}
inline void finish_scores(float* s, int64_t rows_of_64, float scale, float softcap) {
  if (softcap != 0 || !(scale > 0)) scale_tile(s, static_cast<int>(rows_of_64), scale, softcap);
}

// Keys of one step: runs that fill an aligned unit are used where they lie packed, all other keys
// are gathered in scratch, in order.
struct Step {
  int count = 0;
  Unit units[kStepUnits];
  int32_t at[kStepUnits * kUnitKeys];     // of gathered units
  const bf16* k[kStepUnits * kUnitKeys];  // where each key's row lies, a unit's rows in order
  const bf16* v[kStepUnits * kUnitKeys];
};

// Fetches the next step's keys into L2 beside this step's arithmetic. Selected keys lie anywhere,
// and a core waits for 16 lines at a time: as one batch that takes as long as the arithmetic.
struct Prefetcher {
  const Step* step = nullptr;
  int64_t row_bytes = 0;
  int next = 0;  // row of K or V
  int64_t at = 0;

  MI_INLINE void lines(int count) {
    if (step == nullptr) return;
    for (; count > 0 && next < 2 * step->count * kUnitKeys; --count) {
      const bf16* row = next % 2 == 0 ? step->k[next / 2] : step->v[next / 2];
      __builtin_prefetch(reinterpret_cast<const char*>(row) + at, 0, 2);
      at += 64;
      if (at < row_bytes) continue;
      at = 0;
      ++next;
    }
  }
};

// Packs gathered keys: before their scores, and their values before the sums, while they fit L1.
struct GatheredUnits {
  bf16* memory;  // kStepUnits units of K, then of V
  int dim;
  MI_INLINE void pack_k(Step& step, int slot) const {
    Unit& unit = step.units[slot];
    if (unit.at == nullptr) return;
    bf16* out = memory + slot * unit_elements(dim);
    pack_unit_keys(step.k + slot * kUnitKeys, dim, out);
    unit.k = out;
  }
  MI_INLINE void pack_v(Step& step, int slot) const {
    Unit& unit = step.units[slot];
    if (unit.at == nullptr) return;
    bf16* out = memory + (kStepUnits + slot) * unit_elements(dim);
    pack_unit_values(step.v + slot * kUnitKeys, dim, out);
    unit.v = out;
  }
};

// One head over one step of keys; the first head of a group readies them. s [64, 256] and
// p [64, 256] are scratch.
inline void attend_step(const PackedGroup& group, const HeadState& state, Step& step, bool first,
                        const GatheredUnits& gathered, Prefetcher& ahead, int64_t first_limit,
                        float* s, bf16* p) {
  const int dim = padded(group.rows.head_dim);
  const Unit* units = step.units;
  const int count = step.count;
  const int width = count * kUnitKeys;
  // 2 * count * dim lines: half beside 4 * count * dim / 32 products, half beside 64 rows.
  const auto beside = [&] { ahead.lines(8); };
  for (int i = 0; i < count; ++i) {
    if (first) gathered.pack_k(step, i);
    memory_fence();
    for (int half = 0; half < kRowBlock; half += 32)
      score_tile(state.q + half * dim, dim, units[i].k, s + half * width + i * kUnitKeys, width,
                 beside);
  }
  memory_fence();
  finish_scores(s, width, group.scale, group.softcap);
  for (int i = 0; i < count; ++i)
    if (units[i].hides_from(first_limit))
      mask_unit(units[i], first_limit, s + i * kUnitKeys, width);
  const float factor = score_factor(group.scale, group.softcap);
  for (int r = 0; r < kRowBlock; ++r) {
    ahead.lines(count * dim / 64);
    float shrink = 1;
    if (!softmax_row(s + r * width, width, factor, state.top + r, state.sum + r * 16, p + r * width,
                     &shrink))
      continue;
    for (int x = 0; x < dim; x += 16)
      Isa::store(state.o + r * dim + x, Isa::load(state.o + r * dim + x) * Isa::set1(shrink));
  }
  if (first)
    for (int i = 0; i < count; ++i) gathered.pack_v(step, i);
  memory_fence();
  for (int panel = 0; panel < dim / kPanel; ++panel)
    for (int half = 0; half < kRowBlock; half += 32)
      output_tile(p + half * width, width, units, count, panel, dim,
                  state.o + half * dim + panel * kPanel, beside);
  memory_fence();
}

// o = O / sum in bf16, columns back in order; lse in natural units.
inline void write_output(const HeadState& state, int rows, int dim, bf16* o, int64_t o_stride,
                         float* lse) {
  const int wide = padded(dim);
  const __m512i low = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
  const __m512i high =
      _mm512_set_epi32(31, 30, 29, 28, 15, 14, 13, 12, 27, 26, 25, 24, 11, 10, 9, 8);
  for (int r = 0; r < rows; ++r) {
    float sum = 0;
    for (int lane = 0; lane < 16; ++lane) sum += state.sum[r * 16 + lane];
    const __m512 inverse = _mm512_set1_ps(sum > 0 ? 1.0f / sum : 0.0f);
    for (int x = 0; x < dim; x += kPanel) {
      const __m512 a = Isa::load(state.o + r * wide + x) * inverse;
      const __m512 b = Isa::load(state.o + r * wide + x + 16) * inverse;
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(_mm512_permutex2var_ps(a, high, b),
                                                        _mm512_permutex2var_ps(a, low, b));
      _mm512_mask_storeu_epi16(o + r * o_stride + x, panel_mask(x, dim), both);
    }
    if (lse != nullptr)
      lse[r] = sum > 0 ? (state.top[r] + __builtin_log2f(sum)) / kLog2e : kNegativeInfinity;
  }
}

// Walks a selection in steps.
struct UnitCursor {
  const KeyValueRows& rows;
  PackedRows packed;
  int64_t unit_size;
  const uint64_t* words;  // null: every key
  int64_t end;
  int64_t position = 0;
  int waiting = 0;
  // Keys to be gathered; a position is written 16 at a time.
  int32_t pending[2 * kUnitKeys + 16] = {};

  void gather(Step& step) {
    const int count = waiting < kUnitKeys ? waiting : kUnitKeys;
    int32_t* at = step.at + step.count * kUnitKeys;
    for (int t = 0; t < kUnitKeys; ++t) {
      at[t] = t < count ? pending[t] : 0;
      pending[t] = pending[t + kUnitKeys];
      step.k[step.count * kUnitKeys + t] = rows.k + at[t] * rows.k_stride;
      step.v[step.count * kUnitKeys + t] = rows.v + at[t] * rows.v_stride;
    }
    waiting -= count;
    step.units[step.count++] = {nullptr, nullptr, 0, count, at};
  }

  void append(uint32_t bits) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int half = 0; half < kUnitKeys; half += 16, bits >>= 16) {
      const __m512i at =
          _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(position) + half));
      const auto mask = static_cast<__mmask16>(bits);
      _mm512_storeu_si512(pending + waiting, _mm512_maskz_compress_epi32(mask, at));
      waiting += __builtin_popcount(mask);
    }
  }

  // Up to kStepUnits units, those to be gathered still empty; none at the end.
  void next(Step& step) {
    step.count = 0;
    while (step.count < kStepUnits && position < end) {
      const int64_t left = end - position;
      const uint32_t all = left >= kUnitKeys ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
      const uint32_t bits =
          words == nullptr ? all
                           : static_cast<uint32_t>(words[position / 64] >> (position % 64)) & all;
      if (bits == all) {
        const int64_t at = position / kUnitKeys * unit_size;
        for (int t = 0; t < kUnitKeys; ++t) {
          step.k[step.count * kUnitKeys + t] = packed.k + at + t * (unit_size / kUnitKeys);
          step.v[step.count * kUnitKeys + t] = packed.v + at + t * (unit_size / kUnitKeys);
        }
        step.units[step.count++] = {packed.k + at, packed.v + at, static_cast<int32_t>(position), 0,
                                    nullptr};
      } else {
        append(bits);
        if (waiting >= kUnitKeys) gather(step);
      }
      position += kUnitKeys;
    }
    if (step.count < kStepUnits && waiting > 0) gather(step);
  }
};

inline int64_t selected_tiles(const uint64_t* keys, int64_t end) {
  if (keys == nullptr) return (end + kKeyTile - 1) / kKeyTile;
  int64_t selected = 0;
  for (int64_t word = 0; word < bitmap_words(end); ++word)
    selected += __builtin_popcountll(keys[word]);
  return (selected + kKeyTile - 1) / kKeyTile;
}

inline int64_t attend_scratch_floats(int dim) {
  const int wide = padded(dim);
  return kMaxGroup * HeadState::floats(wide) + kStepUnits * unit_elements(dim) +
         kRowBlock * kStepUnits * kUnitKeys * 3 / 2;
}

inline int64_t attend_group(const PackedGroup& group, int64_t block, const uint64_t* keys,
                            void* scratch) {
  static constexpr TileConfig kConfig;
  const AttentionHead shape = group.shape();
  const int rows = shape.rows(block);
  const int dim = group.rows.head_dim;
  const int wide = padded(dim);
  const int64_t first = shape.first_row(block);
  const int64_t first_limit = first + shape.offset();  // last key that row 0 sees
  Carver carve{static_cast<char*>(scratch)};
  HeadState states[kMaxGroup];
  for (int h = 0; h < group.heads; ++h) {
    states[h] = HeadState(carve, wide);
    copy_query(group.q[h] + first * group.q_stride, group.q_stride, rows, dim, states[h].q);
    for (int64_t i = 0; i < kRowBlock * static_cast<int64_t>(wide); ++i) states[h].o[i] = 0;
    for (int r = 0; r < kRowBlock; ++r) states[h].top[r] = kNoTop;
    for (int i = 0; i < kRowBlock * 16; ++i) states[h].sum[i] = 0;
  }
  float* s = carve.floats(kRowBlock * kStepUnits * kUnitKeys);
  auto* p = reinterpret_cast<bf16*>(carve.floats(kRowBlock * kStepUnits * kUnitKeys / 2));
  auto* gathered = reinterpret_cast<bf16*>(carve.floats(kStepUnits * unit_elements(dim)));
  UnitCursor cursor{group.rows, PackedRows(group.packed, dim, group.rows.n_kv), unit_elements(dim),
                    keys, shape.keys_end(block)};
  Step steps[2];
  _tile_loadconfig(&kConfig);
  cursor.next(steps[0]);
  for (int now = 0; steps[now].count > 0; now ^= 1) {
    cursor.next(steps[now ^ 1]);
    Prefetcher ahead{&steps[now ^ 1], 2 * static_cast<int64_t>(wide)};
    // The heads take turns on a step's keys: they come from L3 once and from L2 after that.
    for (int h = 0; h < group.heads; ++h)
      attend_step(group, states[h], steps[now], h == 0, {gathered, dim}, ahead, first_limit, s, p);
  }
  _tile_release();
  for (int h = 0; h < group.heads; ++h)
    write_output(states[h], rows, dim, group.o[h] + first * group.o_stride, group.o_stride,
                 group.lse[h] == nullptr ? nullptr : group.lse[h] + first);
  return selected_tiles(keys, shape.keys_end(block));
}
