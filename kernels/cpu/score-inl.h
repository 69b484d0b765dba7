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
  float* tile;         // [64, 64] gathered rows of p
  int32_t* order;      // [keys_end] keys by level
};

// error[level][r] = (o - o~)^T gram (o - o~) for o~ the output over keys of levels <= level.
inline void family_error(const ScoreBlock& block, const LevelFamily& family,
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

  for (int64_t i = 0; i < static_cast<int64_t>(dim) * kRowBlock; ++i) s.partial[i] = 0;
  for (int r = 0; r < kRowBlock; ++r) s.mass[r] = 0;
  const float* pointers[kMaxHeadDim];
  for (int level = 0; level < family.levels; ++level) {
    float* error = family.error + level * kRowBlock;
    if (start[level] == start[level + 1] && level > 0) {
      for (int r = 0; r < kRowBlock; ++r) error[r] = error[r - kRowBlock];
      continue;
    }
    for (int64_t at = start[level]; at < start[level + 1]; at += kKeyTile) {
      const int64_t left = start[level + 1] - at;
      const int count = static_cast<int>(left < kKeyTile ? left : kKeyTile);
      for (int t = 0; t < count; ++t) {
        const int64_t key = s.order[at + t];
        pointers[t] = block.head.v + key * block.head.v_stride;
        for (int r = 0; r < kRowBlock; r += Isa::kLanes)
          Isa::store(s.tile + t * kRowBlock + r, Isa::load(s.all_p + key * kRowBlock + r));
      }
      tile_product<false>(pointers, dim, count, s.tile, s.partial);
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
    for (int k = 0; k < dim; ++k) pointers[k] = block.gram + static_cast<int64_t>(k) * dim;
    tile_product<true>(pointers, dim, dim, s.difference, s.projected);
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

inline void score_block(const ScoreBlock& block, void* scratch) {
  const AttentionHead& head = block.head;
  const int rows = head.rows(block.block);
  const int dim = head.head_dim;
  const int64_t end = head.keys_end(block.block);
  const int64_t first_limit = head.first_row(block.block) + head.offset();
  const bool with_error = block.output != nullptr;
  const int64_t lanes = static_cast<int64_t>(dim) * kRowBlock;
  Carver carve{static_cast<char*>(scratch)};
  float* packed = carve.floats(lanes);
  float* shift = carve.floats(kRowBlock);
  float* one_tile = carve.floats(kKeyTile * kRowBlock);
  float* all_p = with_error ? carve.floats(end * kRowBlock) : nullptr;
  const float* row_pointers[kKeyTile];

  pack_lanes(head.q + head.first_row(block.block) * head.q_stride, head.q_stride, rows, dim,
             packed);
  // Lanes past the block's rows get probability 0 by an infinite log-sum-exp.
  for (int r = 0; r < kRowBlock; ++r)
    shift[r] = r < rows ? block.lse[r] * kLog2e : -kNegativeInfinity;
  for (const LevelFamily& family : block.families)
    for (int64_t i = 0; i < static_cast<int64_t>(family.levels) * kRowBlock; ++i)
      family.mass[i] = 0;

  for (int64_t begin = 0; begin < end; begin += kKeyTile) {
    const int count = static_cast<int>(end - begin < kKeyTile ? end - begin : kKeyTile);
    float* p = with_error ? all_p + begin * kRowBlock : one_tile;
    for (int t = 0; t < count; ++t) row_pointers[t] = head.k + (begin + t) * head.k_stride;
    tile_product<true>(row_pointers, count, dim, packed, p);
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
  s.tile = carve.floats(kKeyTile * kRowBlock);
  s.order = reinterpret_cast<int32_t*>(carve.floats(end));
  pack_lanes(block.output, block.output_stride, rows, dim, s.output);
  for (const LevelFamily& family : block.families) family_error(block, family, s);
}
