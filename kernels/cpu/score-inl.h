// Scoring of one row block: exact attention mass per level of every candidate family, and on
// request the exact output error of every candidate. Included after attention-inl.h.

// Adds the tile's probabilities to each family's level sums. Neighbouring keys mostly share a
// level, so the running level stays in registers and memory is touched only when it changes.
inline void add_level_mass(const ScoreBlock& block, int64_t begin, int count, const float* p) {
  for (const LevelFamily& family : block.families) {
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

inline void add_column_mass(float* column_mass, int count, const float* p) {
  for (int t = 0; t < count; ++t) {
    alignas(64) float lanes[Isa::kLanes];
    Vec total = Isa::load(p + t * kRowBlock);
    for (int r = Isa::kLanes; r < kRowBlock; r += Isa::kLanes)
      total += Isa::load(p + t * kRowBlock + r);
    Isa::store(lanes, total);
    float mass = 0;
    for (float lane : lanes) mass += lane;
    column_mass[t] = mass;
  }
}

struct ErrorScratch {
  const float* all_p;  // [keys_end, 64]
  float* output;       // [dim, 64] dense output as lanes
  float* partial;      // [dim, 64] sum of p v over the levels so far
  float* difference;   // [dim, 64]
  float* projected;    // [dim, 64]
  float* mass;         // [64]
  int32_t* order;      // [keys_end] keys by level
};

// The three products of scoring in f32. Another instruction set may bring its own
// (amx_score-inl.h).
struct WideProducts {
  const ScoreBlock& block;
  float* query;  // [dim, 64] lanes
  float* tile;   // [64, 64] gathered rows of p

  static int width(int dim) { return dim; }
  static int64_t scratch_floats(int dim) { return (dim + kKeyTile) * int64_t{kRowBlock} + 32; }
  WideProducts(const ScoreBlock& of, Carver& carve) : block(of) {
    const AttentionHead& head = block.head;
    query = carve.floats(int64_t{head.head_dim} * kRowBlock);
    tile = carve.floats(kKeyTile * kRowBlock);
    pack_lanes(head.q + head.first_row(block.block) * head.q_stride, head.q_stride,
               head.rows(block.block), head.head_dim, query);
  }
  // s [count, 64]: q.k of keys begin and on.
  void scores(int64_t begin, int count, float* s) const {
    const float* rows[kKeyTile];
    for (int t = 0; t < count; ++t) rows[t] = block.head.k + (begin + t) * block.head.k_stride;
    tile_product<true>(rows, count, block.head.head_dim, query, s);
  }
  // out [dim, 64] += sum over keys of v p, p [keys_end, 64].
  void add_values(const int32_t* keys, int count, const float* p, float* out) const {
    const float* rows[kKeyTile];
    for (int t = 0; t < count; ++t) {
      rows[t] = block.head.v + keys[t] * block.head.v_stride;
      for (int r = 0; r < kRowBlock; r += Isa::kLanes)
        Isa::store(tile + t * kRowBlock + r, Isa::load(p + int64_t{keys[t]} * kRowBlock + r));
    }
    tile_product<false>(rows, block.head.head_dim, count, tile, out);
  }
  // projected [dim, 64] = gram difference.
  void project(const float* difference, float* projected) const {
    const int dim = block.head.head_dim;
    const float* rows[kMaxHeadDim];
    for (int k = 0; k < dim; ++k) rows[k] = block.gram + static_cast<int64_t>(k) * dim;
    tile_product<true>(rows, dim, dim, difference, projected);
  }
};

// error[level][r] = (o - o~)^T gram (o - o~) for o~ the output over keys of levels <= level.
template <class Products>
void family_error(const ScoreBlock& block, const LevelFamily& family, const Products& products,
                  const ErrorScratch& s) {
  const int dim = block.head.head_dim;
  const int64_t end = block.head.keys_end(block.block);
  int64_t start[256] = {};
  for (int64_t j = 0; j < end; ++j)
    if (family.level[j] < family.levels) ++start[family.level[j] + 1];
  for (int level = 0; level < family.levels; ++level) start[level + 1] += start[level];
  int64_t next[256];
  for (int level = 0; level < family.levels; ++level) next[level] = start[level];
  for (int64_t j = 0; j < end; ++j)
    if (family.level[j] < family.levels) s.order[next[family.level[j]]++] = static_cast<int32_t>(j);

  for (int64_t i = 0; i < int64_t{Products::width(dim)} * kRowBlock; ++i) s.partial[i] = 0;
  for (int r = 0; r < kRowBlock; ++r) s.mass[r] = 0;
  for (int level = 0; level < family.levels; ++level) {
    float* error = family.error + level * kRowBlock;
    if (start[level] == start[level + 1] && level > 0) {
      for (int r = 0; r < kRowBlock; ++r) error[r] = error[r - kRowBlock];
      continue;
    }
    for (int64_t at = start[level]; at < start[level + 1]; at += kKeyTile) {
      const int64_t left = start[level + 1] - at;
      products.add_values(s.order + at, static_cast<int>(left < kKeyTile ? left : kKeyTile),
                          s.all_p, s.partial);
    }
    for (int r = 0; r < kRowBlock; ++r) s.mass[r] += family.mass[level * kRowBlock + r];
    for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
      const Vec mass = Isa::load(s.mass + r);
      const Vec inverse = mass > Isa::set1(0.0f) ? Isa::set1(1.0f) / mass : Isa::set1(0.0f);
      for (int k = 0; k < dim; ++k) {
        const int64_t i = static_cast<int64_t>(k) * kRowBlock + r;
        Isa::store(s.difference + i, Isa::load(s.output + i) - Isa::load(s.partial + i) * inverse);
      }
    }
    products.project(s.difference, s.projected);
    for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
      Vec total = Isa::set1(0.0f);
      for (int k = 0; k < dim; ++k) {
        const int64_t i = static_cast<int64_t>(k) * kRowBlock + r;
        total = Isa::fma(Isa::load(s.difference + i), Isa::load(s.projected + i), total);
      }
      Isa::store(error + r, total);
    }
  }
}

template <class Products>
int64_t score_scratch_floats(int dim, int64_t n_kv) {
  const int64_t lanes = static_cast<int64_t>(Products::width(dim)) * kRowBlock;
  // p of all keys in whole tiles and their order, four lane buffers, two rows; 64 bytes of rounding
  // for each piece.
  return (n_kv + kKeyTile) * (kRowBlock + 1) + 4 * lanes + 3 * kRowBlock + 16 * 16 +
         Products::scratch_floats(dim);
}

template <class Products>
void score_block(const ScoreBlock& block, void* scratch) {
  const AttentionHead& head = block.head;
  const int rows = head.rows(block.block);
  const int dim = head.head_dim;
  const int64_t end = head.keys_end(block.block);
  const int64_t first_limit = head.first_row(block.block) + head.offset();
  const bool with_error = block.output != nullptr;
  const int64_t lanes = static_cast<int64_t>(Products::width(dim)) * kRowBlock;
  Carver carve{static_cast<char*>(scratch)};
  const Products products(block, carve);
  float* shift = carve.floats(kRowBlock);
  float* all_p = carve.floats((with_error ? bitmap_words(end) : 1) * kKeyTile * kRowBlock);

  // Lanes past the block's rows get probability 0 by an infinite log-sum-exp.
  for (int r = 0; r < kRowBlock; ++r)
    shift[r] = r < rows ? block.lse[r] * kLog2e : -kNegativeInfinity;
  for (const LevelFamily& family : block.families)
    for (int64_t i = 0; i < static_cast<int64_t>(family.levels) * kRowBlock; ++i)
      family.mass[i] = 0;

  for (int64_t begin = 0; begin < end; begin += kKeyTile) {
    const int count = static_cast<int>(end - begin < kKeyTile ? end - begin : kKeyTile);
    float* p = with_error ? all_p + begin * kRowBlock : all_p;
    products.scores(begin, count, p);
    scale_tile(p, count, head.scale, head.softcap);
    for (int t = 0; t < count; ++t) {
      mask_key(p + t * kRowBlock, begin + t - first_limit);
      for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
        const Vec x = Isa::load(p + t * kRowBlock + r) - Isa::load(shift + r);
        Isa::store(p + t * kRowBlock + r, exp2_small(x));
      }
    }
    add_level_mass(block, begin, count, p);
    if (block.column_mass != nullptr) add_column_mass(block.column_mass + begin, count, p);
  }
  if (!with_error) return;
  ErrorScratch s{};
  s.all_p = all_p;
  s.output = carve.floats(lanes);
  s.partial = carve.floats(lanes);
  s.difference = carve.floats(lanes);
  s.projected = carve.floats(lanes);
  s.mass = carve.floats(kRowBlock);
  s.order = reinterpret_cast<int32_t*>(carve.floats(end));
  for (int64_t i = 0; i < lanes; ++i) s.difference[i] = 0;  // past dim
  pack_lanes(block.output, block.output_stride, rows, dim, s.output);
  for (const LevelFamily& family : block.families) family_error(block, family, products, s);
}
