// Register-tiled products and the exponential, over the primitives of Isa. Every tile keeps 64
// query rows as vector lanes (S^T = K Q^T), so single K and V rows stream as broadcasts and a
// selected key may sit anywhere in memory at no cost.

using Vec = Isa::Vec;
inline constexpr int kVecs = Isa::kGroupLanes / Isa::kLanes;  // vectors per register tile row
inline constexpr int kLaneVecs = kRowBlock / Isa::kLanes;

// 2^x for x < 1 (under -126: 0); scores sit at or a rounding above their log-sum-exp. Degree-5
// minimax on [-0.5, 0.5], relative error 3e-7; 2^0 is 1 exactly, as a maximum that stays multiplies
// the sums of all tiles before by it.
MI_INLINE Vec exp2_small(Vec x) {
  const Vec floor_x = Isa::set1(-127.0f);
  const Vec clamped = Isa::max(x, floor_x);
  const Vec magic = Isa::set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = clamped + magic;
  const Vec r = clamped - (shifted - magic);
  Vec poly = Isa::fma(Isa::set1(0.00132765f), r, Isa::set1(0.00967554f));
  poly = Isa::fma(poly, r, Isa::set1(0.05550713f));
  poly = Isa::fma(poly, r, Isa::set1(0.24022120f));
  poly = Isa::fma(poly, r, Isa::set1(0.69314694f));
  poly = Isa::fma(poly, r, Isa::set1(1.0f));
  const Isa::IntVec exponent = ((Isa::IntVec)shifted - (Isa::IntVec)magic) << 23;
  const Vec result = (Vec)((Isa::IntVec)poly + exponent);
  const Vec zero = Isa::set1(0.0f);
  return clamped <= Isa::set1(-126.0f) ? zero : result;
}

// tanh(x) = sign(x) (1 - t)/(1 + t), t = e^(-2|x|).
MI_INLINE Vec tanh_of(Vec x) {
  const Vec zero = Isa::set1(0.0f);
  const Vec magnitude = Isa::max(x, zero - x);
  const Vec t = exp2_small(magnitude * Isa::set1(-2.885390082f));
  const Vec y = (Isa::set1(1.0f) - t) / (Isa::set1(1.0f) + t);
  return x < zero ? zero - y : y;
}

// The 32 bits of a row that one step broadcasts, and what it does with them: one f32, or two bf16
// neighbours of the summed index on a CPU that multiplies and adds pairs.
template <class Element>
struct Dot;
template <>
struct Dot<float> {
  static MI_INLINE Vec broadcast(const float* a) { return Isa::set1(*a); }
  static MI_INLINE Vec load(const float* b) { return Isa::load(b); }
  static MI_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return Isa::fma(a, b, c); }
};

// Rows of 64 lanes that lie behind each other, and the rows of some keys of all.
template <class Element>
struct LaneRows {
  const Element* first;
  MI_INLINE const Element* row(int k) const { return first + k * kRowBlock; }
};
struct GatheredLanes {
  const float* first;
  const int32_t* keys;
  MI_INLINE const float* row(int k) const { return first + keys[k] * int64_t{kRowBlock}; }
};

// For r in [0, kRows) and the lanes of one group, which begins at `lane`:
// kByRow: c[r] = sum_k rows[r][k] * b[k] (K rows against packed Q), rows next[r] come after these;
// else:   c[r] += sum_k rows[k][first + r] * b[k] (columns of V, whose row pointers run over keys).
// What comes next is fetched into L1: a broadcast that misses it makes its products issue twice. It
// is 4 % of f32 attention at head dimension 64 and 3 % at 128 on two threads of Emerald Rapids.
template <int kRows, bool kByRow, class Element, class Lanes>
MI_INLINE void tile_rows(const Element* const* rows, const Element* const* next, int64_t first,
                         int depth, const Lanes& b, int lane, float* c) {
  constexpr int kLine = 64 / sizeof(Element);
  // Unrolled all through: g++ 12 else keeps `acc` on the stack before and after the long loop.
  Vec acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int x = 0; x < kVecs; ++x)
      acc[r][x] = kByRow ? Isa::set1(0.0f) : Isa::load(c + r * kRowBlock + x * Isa::kLanes);
  for (int k = 0; k < depth; ++k) {
    Vec b_row[kVecs];
    const Element* from = b.row(k) + lane;
    for (int x = 0; x < kVecs; ++x) b_row[x] = Dot<Element>::load(from + x * Isa::kLanes);
    if constexpr (!kByRow) {
      __builtin_prefetch(rows[k] + first + kLine);
    } else if (k % kLine == 0) {
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(next[r] + k);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec a = Dot<Element>::broadcast(kByRow ? rows[r] + k : rows[k] + first + r);
      for (int x = 0; x < kVecs; ++x)
        acc[r][x] = Dot<Element>::multiply_add(a, b_row[x], acc[r][x]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int x = 0; x < kVecs; ++x) Isa::store(c + r * kRowBlock + x * Isa::kLanes, acc[r][x]);
}

// c [count, 64] = or += A [count, depth] * b [depth, 64], A addressed as in tile_rows.
template <bool kByRow, class Element, class Lanes>
void lanes_product(const Element* const* rows, int count, int depth, const Lanes& b, float* c) {
  for (int lane = 0; lane < kRowBlock; lane += Isa::kGroupLanes) {
    const auto step = [&]<int kRows>(int r) {
      const Element* const* these = kByRow ? rows + r : rows;
      tile_rows<kRows, kByRow>(these, r + 2 * kRows <= count ? these + kRows : these, r, depth, b,
                               lane, c + r * kRowBlock + lane);
      return kRows;
    };
    int r = 0;
    while (r + Isa::kTileRows <= count) r += step.template operator()<Isa::kTileRows>(r);
    while (r + 4 <= count) r += step.template operator()<4>(r);
    while (r + 2 <= count) r += step.template operator()<2>(r);
    if (r < count) step.template operator()<1>(r);
  }
}
template <bool kByRow, class Element>
void tile_product(const Element* const* rows, int count, int depth, const Element* b, float* c) {
  lanes_product<kByRow>(rows, count, depth, LaneRows<Element>{b}, c);
}
