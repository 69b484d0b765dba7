// bf16 flash attention of one row block by tiles: S = Q K^T (f32), P = 2^(S - top) rounded to bf16,
// O += P V (f32). Included after amx_tiles-inl.h and bf16_softmax-inl.h.
//
// A step takes 256 keys: its 64 x 256 scores and probabilities (96 KiB) stay in L2, and O is loaded
// and stored once per step (that costs as much as half of P V's products at 128 keys). Measured at
// d = 128 and rejected: steps of 64 or 128 keys (-20 %, -6 %), 32 rows at a time (-4 %), and
// running the softmax of one step between the products of its neighbours (no gain: tile loads and
// the softmax compete, and the second score buffer costs cache).

inline constexpr int kStepUnits = 8;
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

inline void copy_query(const bf16* q, int64_t stride, int rows, int dim, bf16* out) {
  const int wide = padded(dim);
  for (int r = 0; r < kRowBlock; ++r)
    for (int x = 0; x < wide; x += kPanel) {
      const __mmask32 mask = r < rows ? panel_mask(x, dim) : 0;
      _mm512_store_si512(out + r * wide + x, _mm512_maskz_loadu_epi16(mask, q + r * stride + x));
    }
}

struct RowState {
  bf16* q;     // [64, dim]
  float* o;    // [64, dim], columns in the order of V's tiles
  float* top;  // [64] reference maximum, base-2 units
  float* sum;  // [64, 16] lanes of the sum of P
  static constexpr int64_t floats(int dim) { return kRowBlock * (dim / 2 + dim + 1 + 16); }
  RowState() = default;
  RowState(Carver& carve, int dim)
      : q(reinterpret_cast<bf16*>(carve.floats(kRowBlock * dim / 2))),
        o(carve.floats(kRowBlock * dim)),
        top(carve.floats(kRowBlock)),
        sum(carve.floats(kRowBlock * 16)) {}
  void start(const bf16* query, int64_t stride, int rows, int dim) const {
    const int wide = padded(dim);
    copy_query(query, stride, rows, dim, q);
    for (int r = 0; r < kRowBlock; ++r) {
      for (int x = 0; x < wide; ++x) o[r * wide + x] = 0;
      for (int x = 0; x < 16; ++x) sum[r * 16 + x] = 0;
      top[r] = kNoTop;
    }
  }
};

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

// Keys of one step: runs that fill an aligned unit are used where they lie packed, all other keys
// are gathered in scratch, in order.
struct Step {
  int count = 0;
  Unit units[kStepUnits];
  int32_t at[kStepUnits * kUnitKeys];  // of gathered units
};

// Fetches the rows that the next step gathers into L2 beside this step's arithmetic: selected keys
// lie anywhere, and a core waits for 16 lines at a time, so as one batch that takes as long as the
// arithmetic. Runs are left to the hardware, which is faster at them.
struct Prefetcher {
  const KeyValueRows& rows;
  int64_t lines;  // per row
  int keys_beside;
  int count = 0;
  int next = 0;
  int32_t at[kStepUnits * kUnitKeys];

  // next: null if nothing follows.
  Prefetcher(const KeyValueRows& of, const Step* step)
      : rows(of),
        lines((2 * of.head_dim + 63) / 64),
        keys_beside(lines < 4 ? static_cast<int>(4 / lines) : 1) {
    for (int i = 0; step != nullptr && i < step->count; ++i) {
      const Unit& unit = step->units[i];
      if (unit.at == nullptr) continue;
      for (int half = 0; half < kUnitKeys; half += 16)
        _mm512_storeu_si512(at + count + half, _mm512_loadu_si512(unit.at + half));
      count += unit.count;
    }
  }

  MI_INLINE void keys(int wanted) {
    const int end = next + wanted < count ? next + wanted : count;
    for (; next < end; ++next) {
      const auto* k = reinterpret_cast<const char*>(rows.k + at[next] * rows.k_stride);
      const auto* v = reinterpret_cast<const char*>(rows.v + at[next] * rows.v_stride);
      for (int64_t line = 0; line < lines; ++line) {
        __builtin_prefetch(k + line * 64, 0, 2);
        __builtin_prefetch(v + line * 64, 0, 2);
      }
    }
  }
};

// Packs gathered keys: before their scores, and their values before the sums, while they fit L1.
struct GatheredUnits {
  const KeyValueRows& rows;
  bf16* memory;  // kStepUnits units of K, then of V
  MI_INLINE void pack_k(Step& step, int slot) const {
    Unit& unit = step.units[slot];
    if (unit.at == nullptr) return;
    const bf16* k[kUnitKeys];
    for (int t = 0; t < kUnitKeys; ++t) k[t] = rows.k + unit.at[t] * rows.k_stride;
    bf16* out = memory + slot * unit_elements(rows.head_dim);
    pack_unit_keys(k, rows.head_dim, out);
    unit.k = out;
  }
  MI_INLINE void pack_v(Step& step, int slot) const {
    Unit& unit = step.units[slot];
    if (unit.at == nullptr) return;
    const bf16* v[kUnitKeys];
    for (int t = 0; t < kUnitKeys; ++t) v[t] = rows.v + unit.at[t] * rows.v_stride;
    bf16* out = memory + (kStepUnits + slot) * unit_elements(rows.head_dim);
    pack_unit_values(v, rows.head_dim, out);
    unit.v = out;
  }
};

// One row block over one step of keys; first_limit: last key that row 0 sees. s [64, 256] and
// p [64, 256] are scratch.
inline void attend_step(const PackedGroup& group, const RowState& state, Step& step,
                        const GatheredUnits& gathered, Prefetcher& ahead, int64_t first_limit,
                        float* s, bf16* p) {
  const int dim = padded(group.rows.head_dim);
  const Unit* units = step.units;
  const int count = step.count;
  const int width = count * kUnitKeys;
  // Half of the keys beside 4 * count * dim / 32 products, half beside 64 rows.
  const auto beside = [&] { ahead.keys(ahead.keys_beside); };
  for (int i = 0; i < count; ++i) {
    gathered.pack_k(step, i);
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
    ahead.keys((count + 3) / 4);
    float shrink = 1;
    if (!softmax_row(s + r * width, width, factor, state.top + r, state.sum + r * 16, p + r * width,
                     &shrink))
      continue;
    for (int x = 0; x < dim; x += 16)
      Isa::store(state.o + r * dim + x, Isa::load(state.o + r * dim + x) * Isa::set1(shrink));
  }
  for (int i = 0; i < count; ++i) gathered.pack_v(step, i);
  memory_fence();
  for (int panel = 0; panel < dim / kPanel; ++panel)
    for (int half = 0; half < kRowBlock; half += 32)
      output_tile(p + half * width, width, units, count, panel, dim,
                  state.o + half * dim + panel * kPanel, beside);
  memory_fence();
}

// o = O / sum in bf16, columns back in order; lse in natural units.
inline void write_output(const RowState& state, int rows, int dim, bf16* o, int64_t o_stride,
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

// Walks a row block's selection in steps of up to 256 keys. Two steps are kept: the one that runs
// and the one being filled.
struct KeyWalk {
  const bf16* k = nullptr;  // packed
  const bf16* v = nullptr;
  int64_t unit_size = 0;
  const uint64_t* words = nullptr;  // null: every key
  int64_t end = 0;
  int64_t position = 0;
  int filling = 0;
  bool full = false;  // the step to be filled next holds one that has run
  int waiting = 0;
  Step steps[2];
  // Keys to be gathered; a position is written 16 at a time.
  int32_t pending[2 * kUnitKeys + 16] = {};

  void gather() {
    Step& step = steps[filling];
    const int count = waiting < kUnitKeys ? waiting : kUnitKeys;
    int32_t* at = step.at + step.count * kUnitKeys;
    for (int t = 0; t < kUnitKeys; ++t) {
      at[t] = t < count ? pending[t] : 0;
      pending[t] = pending[t + kUnitKeys];
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

  // The next step whose keys are all known before key `until`, its gathered units still unpacked;
  // null if it takes more keys. Valid until the call after the next.
  Step* next(int64_t until) {
    Step& step = steps[filling];
    if (full) step.count = 0;
    full = false;
    const int64_t stop = until < end ? until : end;
    while (step.count < kStepUnits && position < stop) {
      const int64_t left = end - position;
      const uint32_t all = left >= kUnitKeys ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
      const uint32_t bits =
          words == nullptr ? all
                           : static_cast<uint32_t>(words[position / 64] >> (position % 64)) & all;
      if (bits == all) {
        const int64_t at = position / kUnitKeys * unit_size;
        step.units[step.count++] = {k + at, v + at, static_cast<int32_t>(position), 0, nullptr};
      } else if (bits != 0) {
        append(bits);
        if (waiting >= kUnitKeys) gather();
      }
      position += kUnitKeys;
    }
    if (position >= end && step.count < kStepUnits && waiting > 0) gather();
    if (step.count < kStepUnits && (position < end || step.count == 0)) return nullptr;
    filling ^= 1;
    full = true;
    return &step;
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
  return kMaxGroup * RowState::floats(wide) + kStepUnits * unit_elements(dim) +
         kRowBlock * kStepUnits * kUnitKeys * 3 / 2;
}

// The blocks of a group take turns on every kTurnKeys keys of the sequence: rows and packed runs
// that several of them select come from L3 once and from L2 after that.
inline constexpr int64_t kTurnKeys = 256;

struct Turns {
  KeyWalk* walks;
  int count;
  int64_t end;  // of the longest walk
  int64_t until = kTurnKeys;
  int at = 0;  // whose turn it is

  // The next step and whose it is; null at the end.
  Step* next(int* whose) {
    for (;;) {
      if (Step* step = walks[at].next(until); step != nullptr) {
        *whose = at;
        return step;
      }
      if (++at < count) continue;
      if (until >= end) return at = count - 1, nullptr;
      at = 0;
      until += kTurnKeys;
    }
  }
};

inline void attend_group(const PackedGroup& group, void* scratch) {
  static constexpr TileConfig kConfig;
  const AttentionHead shape = group.shape();
  const int dim = group.rows.head_dim;
  const int wide = padded(dim);
  const int count = static_cast<int>(group.blocks.size());
  const PackedRows packed(group.packed, dim, group.rows.n_kv);
  Carver carve{static_cast<char*>(scratch)};
  RowState states[kMaxGroup];
  KeyWalk walks[kMaxGroup];
  Turns turns{walks, count, 0};
  for (int i = 0; i < count; ++i) {
    HeadBlock& part = group.blocks[static_cast<size_t>(i)];
    const int64_t end = shape.keys_end(part.block);
    states[i] = RowState(carve, wide);
    states[i].start(part.q + shape.first_row(part.block) * group.q_stride, group.q_stride,
                    shape.rows(part.block), dim);
    walks[i].k = packed.k;
    walks[i].v = packed.v;
    walks[i].unit_size = unit_elements(dim);
    walks[i].words = part.keys;
    walks[i].end = end;
    turns.end = turns.end < end ? end : turns.end;
    part.tiles = selected_tiles(part.keys, end);
  }
  float* s = carve.floats(kRowBlock * kStepUnits * kUnitKeys);
  auto* p = reinterpret_cast<bf16*>(carve.floats(kRowBlock * kStepUnits * kUnitKeys / 2));
  const GatheredUnits gathered{
      group.rows, reinterpret_cast<bf16*>(carve.floats(kStepUnits * unit_elements(dim)))};
  _tile_loadconfig(&kConfig);
  int whose = 0;
  for (Step* step = turns.next(&whose); step != nullptr;) {
    const int now = whose;
    Step* following = turns.next(&whose);
    Prefetcher ahead(group.rows, following);
    const int64_t first = shape.first_row(group.blocks[static_cast<size_t>(now)].block);
    attend_step(group, states[now], *step, gathered, ahead, first + shape.offset(), s, p);
    step = following;
  }
  _tile_release();
  for (int i = 0; i < count; ++i) {
    const HeadBlock& part = group.blocks[static_cast<size_t>(i)];
    const int64_t first = shape.first_row(part.block);
    write_output(states[i], shape.rows(part.block), dim, part.o + first * group.o_stride,
                 group.o_stride, part.lse == nullptr ? nullptr : part.lse + first);
  }
}
