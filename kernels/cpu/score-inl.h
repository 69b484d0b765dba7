// Scoring of one row block: exact attention mass per level of every candidate family, and on
// request the exact output error of every candidate. Included after attention-inl.h.

// Adds the tile's probabilities to each family's level sums. Neighbouring keys mostly share a
// level, so the running level stays in registers and memory is touched only when it changes.
inline void add_level_mass(const ScoreBlock& block, int64_t begin, int count, const float* p) {
  for (const LevelFamily& family : block.families) {
    if (family.mass == nullptr) continue;
    for (int lane = 0; lane < kRowBlock; lane += Isa::kGroupLanes) {
      int t = 0;
      while (t < count) {
        const int level = family.level[begin + t];
        if (level >= family.levels) {
          ++t;
          continue;
        }
        float* mass = family.mass + level * kRowBlock + lane;
        Vec acc[kVecs];
        for (int x = 0; x < kVecs; ++x) acc[x] = Isa::load(mass + x * Isa::kLanes);
        for (; t < count && family.level[begin + t] == level; ++t)
          for (int x = 0; x < kVecs; ++x)
            acc[x] += Isa::load(p + t * kRowBlock + lane + x * Isa::kLanes);
        for (int x = 0; x < kVecs; ++x) Isa::store(mass + x * Isa::kLanes, acc[x]);
      }
    }
  }
}

// Lane i: the sum of the lanes of vector i, by a tree of kLanes - 1 additions of pairs.
template <int kCount, size_t... kPair>
MI_INLINE Vec sums_of(const Vec* v, std::index_sequence<kPair...> pairs) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    const Vec a = sums_of<kCount / 2>(v, pairs);
    const Vec b = sums_of<kCount / 2>(v + kCount / 2, pairs);
    return __builtin_shufflevector(a, b, 2 * kPair...) +
           __builtin_shufflevector(a, b, 2 * kPair + 1 ...);
  }
}

// p [whole groups of kLanes keys, 64]: what lies past `count` is read and left out.
inline void add_column_mass(float* column_mass, int count, const float* p) {
  for (int t = 0; t < count; t += Isa::kLanes) {
    Vec total[Isa::kLanes];
    for (int i = 0; i < Isa::kLanes; ++i) {
      const float* row = p + (t + i) * kRowBlock;
      total[i] = Isa::load(row);
      for (int r = Isa::kLanes; r < kRowBlock; r += Isa::kLanes) total[i] += Isa::load(row + r);
    }
    const Vec sums = sums_of<Isa::kLanes>(total, std::make_index_sequence<Isa::kLanes>());
    if (t + Isa::kLanes <= count) {
      Isa::store(column_mass + t, sums);
      continue;
    }
    alignas(64) float lanes[Isa::kLanes];
    Isa::store(lanes, sums);
    for (int i = 0; t + i < count; ++i) column_mass[t + i] = lanes[i];
  }
}

struct ErrorScratch {
  float* upto;        // [levels + 1][width(dim) + 1, 64] of one family: partial and mass by level
  float* total;       // [width(dim), 64] sum of p v over all keys
  float* total_mass;  // [64] sum of p over all keys, and the rest
  float* output;      // [width(dim), 64] dense output as lanes
  float* partial;     // [width(dim), 64] sum of p v over the levels so far
  float* difference;  // [width(dim), 64]
  float* projected;   // [width(dim), 64]
  float* mass;        // [64] sum of p over the levels so far
  float* rest;        // [64] mass that no key holds
  int32_t* order;     // [keys_end] keys by level
};

// The products of scoring in f32. Another instruction set may bring its own (amx_score-inl.h), with
// more rows of outputs than dim and in another order, as long as all three agree on it.
struct WideProducts {
  static constexpr int kStepKeys = kKeyTile;  // of add_values
  const ScoreBlock& block;
  float* query;  // [dim, 64] lanes
  float* all_p;  // [keys_end, 64] where errors are scored, else a tile
  float* upper =
      nullptr;  // [dim, dim] of the same form as gram, 0 below its diagonal: half the products

  static int width(int dim) { return dim; }
  static int64_t scratch_floats(int dim, int64_t n_kv) {
    return (dim + n_kv + kKeyTile) * int64_t{kRowBlock} + int64_t{dim} * dim + 64;
  }
  WideProducts(const ScoreBlock& of, Carver& carve) : block(of) {
    const AttentionHead& head = block.head;
    query = carve.floats(int64_t{head.head_dim} * kRowBlock);
    all_p = carve.floats((block.gram != nullptr ? bitmap_words(head.keys_end(block.block)) : 1) *
                         kKeyTile * kRowBlock);
    pack_lanes(head.q + head.first_row(block.block) * head.q_stride, head.q_stride,
               head.rows(block.block), head.head_dim, query);
    if (block.gram == nullptr) return;
    const int dim = head.head_dim;
    upper = carve.floats(int64_t{dim} * dim);
    for (int i = 0; i < dim; ++i)
      for (int j = 0; j < dim; ++j)
        upper[i * dim + j] = (j < i ? 0.0f : j == i ? 1.0f : 2.0f) * block.gram[i * dim + j];
  }
  // p [count, 64] = 2^(s - shift) of keys begin and on, kept for add_values where errors are
  // scored.
  const float* probabilities(int64_t begin, int count, const float* shift) const {
    return probabilities(begin, count, shift, [&](float* s) {
      const float* rows[kKeyTile];
      for (int t = 0; t < count; ++t) rows[t] = block.head.k + (begin + t) * block.head.k_stride;
      tile_product<true>(rows, count, block.head.head_dim, query, s);
    });
  }
  // score(s) writes the products of the same keys.
  template <class Score>
  const float* probabilities(int64_t begin, int count, const float* shift,
                             const Score& score) const {
    const AttentionHead& head = block.head;
    const int64_t first_limit = head.first_row(block.block) + head.offset();
    float* p = block.gram != nullptr ? all_p + begin * kRowBlock : all_p;
    score(p);
    scale_tile(p, count, head.scale, head.softcap);
    for (int t = 0; t < count; ++t) {
      mask_key(p + t * kRowBlock, begin + t - first_limit);
      for (int r = 0; r < kRowBlock; r += Isa::kLanes)
        Isa::store(p + t * kRowBlock + r,
                   exp2_small(Isa::load(p + t * kRowBlock + r) - Isa::load(shift + r)));
    }
    return p;
  }
  // out [dim, 64] += sum over keys of v p, mass [64] += sum of p; at most kStepKeys keys.
  void add_values(const int32_t* keys, int count, float* out, float* mass) const {
    const float* rows[kKeyTile];
    for (int t = 0; t < count; ++t) rows[t] = block.head.v + keys[t] * block.head.v_stride;
    const GatheredLanes p{all_p, keys};
    for (int lane = 0; lane < kRowBlock; lane += Isa::kGroupLanes) {
      Vec sum[kVecs];
      for (int x = 0; x < kVecs; ++x) sum[x] = Isa::load(mass + lane + x * Isa::kLanes);
      for (int t = 0; t < count; ++t) {
        const float* from = p.row(t) + lane;
        for (int x = 0; x < kVecs; ++x) sum[x] += Isa::load(from + x * Isa::kLanes);
      }
      for (int x = 0; x < kVecs; ++x) Isa::store(mass + lane + x * Isa::kLanes, sum[x]);
    }
    lanes_product<false>(rows, block.head.head_dim, count, p, out);
  }
  // projected [dim, 64]: its product with the difference [dim, 64] is the error.
  void project(const float* difference, float* projected) const {
    const int dim = block.head.head_dim;
    for (int first = 0; first < dim; first += Isa::kTileRows) {
      const float* rows[Isa::kTileRows];
      const int count = dim - first < Isa::kTileRows ? dim - first : Isa::kTileRows;
      for (int i = 0; i < count; ++i) rows[i] = upper + (first + i) * dim + first;
      tile_product<true>(rows, count, dim - first, difference + first * kRowBlock,
                         projected + first * kRowBlock);
    }
  }
};

template <class Products>
void add_keys(const Products& products, int64_t count, const ErrorScratch& s) {
  for (int64_t at = 0; at < count; at += Products::kStepKeys) {
    const int64_t left = count - at;
    products.add_values(s.order + at,
                        static_cast<int>(left < Products::kStepKeys ? left : Products::kStepKeys),
                        s.partial, s.mass);
  }
}

// No keys; `mass` [64] to begin with, or none.
template <class Products>
void clear_sums(int dim, const float* mass, const ErrorScratch& s) {
  for (int64_t i = 0; i < int64_t{Products::width(dim)} * kRowBlock; ++i) s.partial[i] = 0;
  for (int r = 0; r < kRowBlock; ++r) s.mass[r] = mass == nullptr ? 0 : mass[r];
}

MI_INLINE Vec inverse_of(Vec mass) {
  return mass > Isa::set1(0.0f) ? Isa::set1(1.0f) / mass : Isa::set1(0.0f);
}

// s.total, s.output and norm [64] <- the dense output by the sums over every key, and ||o||^2.
template <class Products>
void dense_output(const ScoreBlock& block, const ErrorScratch& all, const ErrorScratch& s) {
  const int64_t size = int64_t{Products::width(block.head.head_dim)} * kRowBlock;
  for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
    const Vec mass = Isa::load(all.mass + r);
    Isa::store(s.total_mass + r, mass);
    Vec norm = Isa::set1(0.0f);
    for (int64_t i = r; i < size; i += kRowBlock) {
      const Vec sum = Isa::load(all.partial + i);
      const Vec o = sum * inverse_of(mass);
      Isa::store(s.total + i, sum);
      Isa::store(s.output + i, o);
      norm = Isa::fma(o, o, norm);
    }
    Isa::store(block.norm + r, norm);
  }
}

// order <- keys by level; start [levels + 1] where each level's begin.
inline void order_keys(const LevelFamily& family, int64_t end, int32_t* order, int64_t* start) {
  int64_t next[256];
  int64_t sum = 0;
  for (int level = 0; level <= family.levels; ++level) {
    start[level] = next[level] = sum;
    sum += family.counts[level];
  }
  for (int64_t j = 0; j < end; ++j) order[next[family.level[j]]++] = static_cast<int32_t>(j);
}

inline int level_of_most_keys(const LevelFamily& family) {
  int most = 0;
  for (int level = 1; level <= family.levels; ++level)
    if (family.counts[level] > family.counts[most]) most = level;
  return most;
}

// error [64] = (o - o~)^T gram (o - o~) for o~ the output over the keys in s.partial, or over all
// other keys.
template <bool kOthers, class Products>
void level_error(const ScoreBlock& block, const Products& products, const ErrorScratch& s,
                 float* error) {
  const int64_t size = int64_t{Products::width(block.head.head_dim)} * kRowBlock;
  for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
    const Vec own = Isa::load(s.mass + r);
    const Vec inverse = inverse_of(kOthers ? Isa::load(s.total_mass + r) - own : own);
    for (int64_t i = r; i < size; i += kRowBlock) {
      const Vec partial = Isa::load(s.partial + i);
      const Vec sum = kOthers ? Isa::load(s.total + i) - partial : partial;
      Isa::store(s.difference + i, Isa::load(s.output + i) - sum * inverse);
    }
  }
  products.project(s.difference, s.projected);
  for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
    Vec total = Isa::set1(0.0f);
    for (int64_t i = r; i < size; i += kRowBlock)
      total = Isa::fma(Isa::load(s.difference + i), Isa::load(s.projected + i), total);
    Isa::store(error + r, total);
  }
}

// Whether the keys not in s.partial hold so much of each row's mass that a difference of sums is as
// good as their own sum.
inline bool others_weigh(const ErrorScratch& s, int rows) {
  for (int r = 0; r < rows; ++r)
    if (!(s.total_mass[r] - s.mass[r] >= s.total_mass[r] / 16)) return false;
  return true;
}

inline void copy_error(const LevelFamily& family, int from, int to) {
  for (int r = 0; r < kRowBlock; ++r)
    family.error[to * kRowBlock + r] = family.error[from * kRowBlock + r];
}

// The dense output, of the same p as the sparse ones, and the errors of one family, whose sums lead
// to it: no key is added for it alone.
template <class Products>
void first_errors(const ScoreBlock& block, const LevelFamily& family, const Products& products,
                  const ErrorScratch& s) {
  const int dim = block.head.head_dim;
  const int64_t size = int64_t{Products::width(dim)} * kRowBlock;
  int64_t start[256];
  order_keys(family, block.head.keys_end(block.block), s.order, start);
  const auto sums_of = [&](int level) {
    ErrorScratch of = s;
    of.partial = s.upto + level * (size + kRowBlock);
    of.mass = of.partial + size;
    return of;
  };
  const auto same = [&](int level) { return level > 0 && family.counts[level] == 0; };
  int last = 0;  // level whose sums are complete
  for (int level = 0; level <= family.levels; ++level) {
    if (same(level)) continue;
    ErrorScratch own = sums_of(level);
    if (level == 0) {
      clear_sums<Products>(dim, s.rest, own);
    } else {
      const ErrorScratch before = sums_of(last);
      for (int64_t i = 0; i < size + kRowBlock; ++i) own.partial[i] = before.partial[i];
    }
    own.order = s.order + start[level];
    add_keys(products, family.counts[level], own);
    last = level;
  }
  dense_output<Products>(block, sums_of(last), s);
  for (int level = 0; level < family.levels; ++level) {
    if (same(level)) {
      copy_error(family, level - 1, level);
    } else {
      level_error<false>(block, products, sums_of(level), family.error + level * kRowBlock);
    }
  }
}

// error[level][r] for o~ the output over keys of levels <= level. From both ends towards the level
// with the most keys, whose values need then not be added.
template <class Products>
void family_error(const ScoreBlock& block, const LevelFamily& family, const Products& products,
                  const ErrorScratch& s) {
  const AttentionHead& head = block.head;
  int64_t start[256];
  order_keys(family, head.keys_end(block.block), s.order, start);
  const int most = level_of_most_keys(family);
  ErrorScratch own = s;
  const auto add_level = [&](int level) {
    own.order = s.order + start[level];
    add_keys(products, family.counts[level], own);
  };

  int end = family.levels;  // levels from here on are done
  clear_sums<Products>(head.head_dim, nullptr, s);
  for (; end > most; --end) {
    add_level(end);
    if (!others_weigh(s, head.rows(block.block))) break;
    if (end < family.levels && family.counts[end] == 0) {
      copy_error(family, end, end - 1);
    } else {
      level_error<true>(block, products, s, family.error + (end - 1) * kRowBlock);
    }
  }
  clear_sums<Products>(head.head_dim, s.rest, s);
  for (int level = 0; level < end; ++level) {
    add_level(level);
    if (level > 0 && family.counts[level] == 0) {
      copy_error(family, level - 1, level);
    } else {
      level_error<false>(block, products, s, family.error + level * kRowBlock);
    }
  }
}

template <class Products>
size_t score_scratch_bytes_of(int dim, int64_t n_kv, int most_levels) {
  const int64_t lanes = static_cast<int64_t>(Products::width(dim)) * kRowBlock;
  // Keys in order, five lane buffers, four rows, sums by level; 64 bytes of rounding for each
  // piece.
  const int64_t floats = n_kv + 5 * lanes + 4 * kRowBlock +
                         (most_levels + 1) * (lanes + kRowBlock) + 17 * 16 +
                         Products::scratch_floats(dim, n_kv);
  return static_cast<size_t>(floats) * sizeof(float);
}

template <class Products>
void score_block(const ScoreBlock& block, void* scratch) {
  const AttentionHead& head = block.head;
  const int rows = head.rows(block.block);
  const int64_t end = head.keys_end(block.block);
  Carver carve{static_cast<char*>(scratch)};
  const Products products(block, carve);
  float* shift = carve.floats(kRowBlock);

  // Lanes past the block's rows get probability 0 by an infinite log-sum-exp.
  for (int r = 0; r < kRowBlock; ++r)
    shift[r] = r < rows ? block.lse[r] * kLog2e : -kNegativeInfinity;
  for (const LevelFamily& family : block.families)
    for (int64_t i = 0; family.mass != nullptr && i < int64_t{family.levels} * kRowBlock; ++i)
      family.mass[i] = 0;

  for (int64_t begin = 0; begin < end; begin += kKeyTile) {
    const int count = static_cast<int>(end - begin < kKeyTile ? end - begin : kKeyTile);
    const float* p = products.probabilities(begin, count, shift);
    add_level_mass(block, begin, count, p);
    add_column_mass(block.column_mass + begin, count, p);
  }
  if (block.gram == nullptr) return;
  const int64_t lanes = int64_t{Products::width(head.head_dim)} * kRowBlock;
  // That whose largest level is the smallest adds the fewest keys that it could have left out.
  const LevelFamily* first = nullptr;
  int most_levels = 0;
  for (const LevelFamily& family : block.families) {
    most_levels = family.levels > most_levels ? family.levels : most_levels;
    const auto most = [](const LevelFamily& of) { return of.counts[level_of_most_keys(of)]; };
    if (first == nullptr || most(family) < most(*first)) first = &family;
  }
  const ErrorScratch s{.upto = carve.floats((most_levels + 1) * (lanes + kRowBlock)),
                       .total = carve.floats(lanes),
                       .total_mass = carve.floats(kRowBlock),
                       .output = carve.floats(lanes),
                       .partial = carve.floats(lanes),
                       .difference = carve.floats(lanes),
                       .projected = carve.floats(lanes),
                       .mass = carve.floats(kRowBlock),
                       .rest = carve.floats(kRowBlock),
                       .order = reinterpret_cast<int32_t*>(carve.floats(end))};
  for (int r = 0; r < kRowBlock; ++r)
    s.rest[r] = block.rest != nullptr && r < rows ? block.rest[r] : 0;
  first_errors(block, *first, products, s);
  for (const LevelFamily& family : block.families)
    if (&family != first) family_error(block, family, products, s);
}
