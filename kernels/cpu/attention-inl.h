// Flash attention of one row block, estimator probabilities and the scoring reduction: the
// algorithm text of every CPU backend, included inside its namespace and target region after Isa
// and tile-inl.h. Lanes are query rows, so the softmax needs no horizontal operation.
//
// Goals: exact for any selection, O(n_kv) scratch, no allocation, no branch on where keys sit.
// Non-goals: tile instructions.

inline constexpr float kLog2e = 1.44269504088896341f;
inline constexpr float kNegativeInfinity = -__builtin_huge_valf();

inline constexpr float kNoTop = -1e30f;  // of a row without a key; finite: -inf - top is no NaN

// Lane r of kCausal + 64 - t is 0 for r >= t and -inf below: key t positions past the first row's
// limit is hidden from rows r < t.
struct CausalMask {
  alignas(64) float values[2 * kRowBlock];
  constexpr CausalMask() : values() {
    for (int i = 0; i < 2 * kRowBlock; ++i) values[i] = i < kRowBlock ? kNegativeInfinity : 0.0f;
  }
};
inline constexpr CausalMask kCausal;

// Scratch laid out by hand: pointers into the caller's buffer.
struct Carver {
  char* at;
  float* floats(int64_t count) {
    float* p = reinterpret_cast<float*>(at);
    at += (count * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
    return p;
  }
};

// q rows as lanes: packed[k][r] = q[r][k]; lanes past `rows` are 0.
inline void pack_lanes(const float* q, int64_t stride, int rows, int dim, float* packed) {
  for (int k = 0; k < dim; ++k) {
    for (int r = 0; r < rows; ++r) packed[k * kRowBlock + r] = q[r * stride + k];
    for (int r = rows; r < kRowBlock; ++r) packed[k * kRowBlock + r] = 0;
  }
}

// Scores of a tile in base-2 units: s * scale * log2(e), after the soft cap.
inline void scale_tile(float* s, int count, float scale, float softcap) {
  const int64_t size = static_cast<int64_t>(count) * kRowBlock;
  if (softcap == 0) {
    const Vec factor = Isa::set1(scale * kLog2e);
    for (int64_t i = 0; i < size; i += Isa::kLanes) Isa::store(s + i, Isa::load(s + i) * factor);
    return;
  }
  const Vec inner = Isa::set1(scale / softcap);
  const Vec outer = Isa::set1(softcap * kLog2e);
  for (int64_t i = 0; i < size; i += Isa::kLanes)
    Isa::store(s + i, tanh_of(Isa::load(s + i) * inner) * outer);
}

// Scores in units where a softmax's factor applies: base 2 unless a positive scale will do that.
inline float score_factor(float scale, float softcap) {
  return softcap == 0 && scale > 0 ? scale * kLog2e : 1.0f;
}
inline void finish_scores(float* s, int64_t rows_of_64, float scale, float softcap) {
  if (softcap != 0 || !(scale > 0)) scale_tile(s, static_cast<int>(rows_of_64), scale, softcap);
}

// Hides key position `past` (counted from the first row's last visible key) from rows r < past.
inline void mask_key(float* s_row, int64_t past) {
  if (past <= 0) return;
  const float* mask = kCausal.values + kRowBlock - (past < kRowBlock ? past : kRowBlock);
  for (int r = 0; r < kRowBlock; r += Isa::kLanes)
    Isa::store(s_row + r, Isa::load(s_row + r) + Isa::load(mask + r));
}

// Keys whose softmax is made at a time: two tiles.
inline constexpr int kAttendKeys = 2 * kKeyTile;

// Walks the set bits of a bitmap in steps of up to kAttendKeys key positions.
struct KeyCursor {
  const uint64_t* words;  // null: every key
  int64_t end;
  int64_t position = 0;
  uint64_t word = 0;
  int64_t next_word = 0;

  int next_step(int32_t* keys) {
    int count = 0;
    if (words == nullptr) {
      while (count < kAttendKeys && position < end)
        keys[count++] = static_cast<int32_t>(position++);
      return count;
    }
    while (count < kAttendKeys) {
      if (word == 0) {
        if (next_word * 64 >= end) break;
        word = words[next_word++];
        continue;
      }
      keys[count++] = static_cast<int32_t>((next_word - 1) * 64 + __builtin_ctzll(word));
      word &= word - 1;
    }
    return count;
  }
};

// Online softmax of one row block.
struct BlockState {
  float* out;  // [dim, 64] sum of p v
  float* s;    // [64 keys, 64] scores of a tile, then its p
  float* top;  // [64] largest score so far, base-2 units
  float* sum;  // [64] sum of p
  static constexpr int64_t floats(int dim) { return kRowBlock * (dim + kAttendKeys + 2); }
  BlockState(Carver& carve, int dim)
      : out(carve.floats(static_cast<int64_t>(dim) * kRowBlock)),
        s(carve.floats(kAttendKeys * kRowBlock)),
        top(carve.floats(kRowBlock)),
        sum(carve.floats(kRowBlock)) {
    for (int64_t i = 0; i < static_cast<int64_t>(dim) * kRowBlock; ++i) out[i] = 0;
    for (int r = 0; r < kRowBlock; ++r) {
      top[r] = kNoTop;
      sum[r] = 0;
    }
  }
  void write_lse(int rows, float* lse) const {
    if (lse == nullptr) return;
    for (int r = 0; r < rows; ++r)
      lse[r] = sum[r] > 0 ? (top[r] + __builtin_log2f(sum[r])) / kLog2e : kNegativeInfinity;
  }
};

// How fine the softmax is and what it leaves in s for add_output: f32.
struct WideSoftmax {
  static MI_INLINE Vec exp2(Vec x) { return exp2_small(x); }
  // p of keys t and t + 1.
  static MI_INLINE void put(float* s, int t, Vec first, Vec second) {
    Isa::store(s + t * kRowBlock, first);
    Isa::store(s + (t + 1) * kRowBlock, second);
  }
};

// One head's input, f32: keys are read where they lie.
struct WideRows {
  using Softmax = WideSoftmax;
  const AttentionHead& head;
  const float* q;  // [dim, 64]

  void score(const int32_t* keys, int count, float* s) const {
    const float* rows[kAttendKeys];
    for (int t = 0; t < count; ++t) rows[t] = head.k + keys[t] * head.k_stride;
    tile_product<true>(rows, count, head.head_dim, q, s);
  }
  void add_output(const int32_t* keys, int count, const float* p, float* out) const {
    const float* rows[kAttendKeys];
    for (int t = 0; t < count; ++t) rows[t] = head.v + keys[t] * head.v_stride;
    tile_product<false>(rows, head.head_dim, count, p, out);
  }
};

// s [count, 64] scores -> 2^(s * factor - top) as Softmax puts them.
template <class Softmax>
MI_INLINE void softmax_lanes(const BlockState& state, int lane, int count, int dim, float factor) {
  float* s = state.s + lane;
  Vec highest[kVecs];
  for (int x = 0; x < kVecs; ++x) highest[x] = Isa::load(s + x * Isa::kLanes);
  for (int t = 1; t < count; ++t)
    for (int x = 0; x < kVecs; ++x)
      highest[x] = Isa::max(highest[x], Isa::load(s + t * kRowBlock + x * Isa::kLanes));
  const Vec scale = Isa::set1(factor);
  for (int x = 0; x < kVecs; ++x) {
    const int r = lane + x * Isa::kLanes;
    Vec top = Isa::load(state.top + r);
    Vec total = Isa::load(state.sum + r);
    // Where a row's largest p is not 1, rounding it to bf16 errs by up to three times what is
    // allowed.
    if (Isa::greater(highest[x] * scale, top) != 0) {
      const Vec old_top = top;
      top = Isa::max(top, highest[x] * scale);
      const Vec shrink = exp2_small(old_top - top);
      total *= shrink;
      Isa::store(state.top + r, top);
      for (int k = 0; k < dim; ++k)
        Isa::store(state.out + k * kRowBlock + r,
                   Isa::load(state.out + k * kRowBlock + r) * shrink);
    }
    const Vec less = Isa::set1(0.0f) - top;
    const auto p_of = [&](int t) {
      const Vec score = Isa::load(state.s + t * kRowBlock + r);
      const Vec p = Softmax::exp2(Isa::fma(score, scale, less));
      total += p;
      return p;
    };
    int t = 0;
    for (; t + 2 <= count; t += 2) {
      const Vec first = p_of(t);
      Softmax::put(state.s + r, t, first, p_of(t + 1));
    }
    if (t < count) Softmax::put(state.s + r, t, p_of(t), Isa::set1(0.0f));
    Isa::store(state.sum + r, total);
  }
}

// Every selected key of one row block; returns executed tiles.
template <class Rows>
int64_t attend_keys(const Rows& input, const AttentionHead& head, int64_t block,
                    const uint64_t* keys, const BlockState& state) {
  const int64_t first_limit = head.first_row(block) + head.offset();  // last key row 0 sees
  const float factor = score_factor(head.scale, head.softcap);
  float* s = state.s;
  int32_t step_keys[kAttendKeys];
  KeyCursor cursor{keys, head.keys_end(block)};
  int64_t tiles = 0;
  for (int count = 0; (count = cursor.next_step(step_keys)) > 0;
       tiles += (count + kKeyTile - 1) / kKeyTile) {
    input.score(step_keys, count, s);
    finish_scores(s, count, head.scale, head.softcap);
    if (step_keys[count - 1] > first_limit)
      for (int t = 0; t < count; ++t) mask_key(s + t * kRowBlock, step_keys[t] - first_limit);
    for (int lane = 0; lane < kRowBlock; lane += Isa::kGroupLanes)
      softmax_lanes<typename Rows::Softmax>(state, lane, count, head.head_dim, factor);
    input.add_output(step_keys, count, s, state.out);
  }
  return tiles;
}

inline int64_t attend_block(const AttentionHead& head, int64_t block, const uint64_t* keys,
                            float* o, int64_t o_stride, float* lse, void* scratch) {
  const int rows = head.rows(block);
  const int dim = head.head_dim;
  Carver carve{static_cast<char*>(scratch)};
  float* packed = carve.floats(static_cast<int64_t>(dim) * kRowBlock);
  const BlockState state(carve, dim);
  pack_lanes(head.q + head.first_row(block) * head.q_stride, head.q_stride, rows, dim, packed);
  const int64_t tiles = attend_keys(WideRows{head, packed}, head, block, keys, state);
  for (int r = 0; r < rows; ++r) {
    const float inverse = state.sum[r] > 0 ? 1.0f / state.sum[r] : 0.0f;
    for (int k = 0; k < dim; ++k) o[r * o_stride + k] = state.out[k * kRowBlock + r] * inverse;
  }
  state.write_lse(rows, lse);
  return tiles;
}

// Of attend_block and of probability_rows: 64 bytes of rounding for each piece.
inline int64_t block_scratch_floats(int dim) {
  return int64_t{kRowBlock} * dim + BlockState::floats(dim) + 5 * 16;
}

// Two passes over the keys: scores with running maximum and sum, then exp and transposition.
// key_rows(begin, count, pointers) tells where the f32 rows of those keys are.
template <class KeyRows>
void probability_rows(const ProbabilityRows& rows, const KeyRows& key_rows, void* scratch) {
  Carver carve{static_cast<char*>(scratch)};
  float* packed = carve.floats(static_cast<int64_t>(rows.dim) * kRowBlock);
  float* s = carve.floats(kKeyTile * kRowBlock);
  float* top = carve.floats(kRowBlock);
  float* sum = carve.floats(kRowBlock);
  const float* row_pointers[kKeyTile];
  int64_t end = 0;
  for (int r = 0; r < rows.rows; ++r) end = rows.visible[r] > end ? rows.visible[r] : end;
  pack_lanes(rows.q, rows.q_stride, rows.rows, rows.dim, packed);
  for (int r = 0; r < kRowBlock; ++r) {
    top[r] = kNegativeInfinity;
    sum[r] = 0;
  }
  for (int64_t begin = 0; begin < end; begin += kKeyTile) {
    const int count = static_cast<int>(end - begin < kKeyTile ? end - begin : kKeyTile);
    key_rows(begin, count, row_pointers);
    tile_product<true>(row_pointers, count, rows.dim, packed, s);
    scale_tile(s, count, rows.scale, rows.softcap);
    for (int r = 0; r < rows.rows; ++r) {
      const int64_t seen = rows.visible[r] - begin;
      const int shown = static_cast<int>(seen < 0 ? 0 : seen < count ? seen : count);
      float* p = rows.p + r * rows.p_stride + begin;
      for (int t = 0; t < shown; ++t) p[t] = s[t * kRowBlock + r];
      for (int t = shown; t < count; ++t) {
        p[t] = kNegativeInfinity;
        s[t * kRowBlock + r] = kNegativeInfinity;
      }
    }
    for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
      const Vec old_top = Isa::load(top + r);
      Vec new_top = old_top;
      for (int t = 0; t < count; ++t) new_top = Isa::max(new_top, Isa::load(s + t * kRowBlock + r));
      const Vec safe_top = new_top == Isa::set1(kNegativeInfinity) ? Isa::set1(0.0f) : new_top;
      Vec total = Isa::load(sum + r) * exp2_small(old_top - safe_top);
      for (int t = 0; t < count; ++t)
        total += exp2_small(Isa::load(s + t * kRowBlock + r) - safe_top);
      Isa::store(sum + r, total);
      Isa::store(top + r, new_top);
    }
  }
  for (int r = 0; r < rows.rows; ++r) {
    float* p = rows.p + r * rows.p_stride;
    const Vec row_top = Isa::set1(top[r]);
    const Vec inverse = Isa::set1(1.0f / sum[r]);
    int64_t j = 0;
    for (; j + Isa::kLanes <= end; j += Isa::kLanes)
      Isa::store(p + j, exp2_small(Isa::load(p + j) - row_top) * inverse);
    for (; j < end; ++j) {
      alignas(64) float lane[Isa::kLanes];
      Isa::store(lane, exp2_small(Isa::set1(p[j]) - row_top) * inverse);
      p[j] = lane[0];
    }
  }
}

inline void probability_rows(const ProbabilityRows& rows, void* scratch) {
  const auto in_place = [&](int64_t begin, int count, const float** pointers) {
    for (int t = 0; t < count; ++t) pointers[t] = rows.k + (begin + t) * rows.k_stride;
  };
  probability_rows(rows, in_place, scratch);
}
