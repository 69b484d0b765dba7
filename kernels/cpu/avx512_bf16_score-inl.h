// The products of scoring with those of queries and keys by dot products of bf16 pairs: both are
// bf16 numbers, so no bit is lost. P and the differences of outputs are not, and stay f32: in two
// parts of bf16 each they would need twice the dot products, which then gain nothing. Included
// after score-inl.h and avx512_bf16_attention-inl.h.

struct PairProducts : WideProducts {
  PairProducts(const ScoreBlock& of, Carver& carve) : WideProducts(of, carve) {
    for (int k = 0; k < of.head.head_dim; k += 2)  // in place: [dim / 2][64][2]
      for (int r = 0; r < kRowBlock; r += Isa::kLanes) {
        const float* from = query + k * kRowBlock + r;
        _mm512_storeu_si512(query + k / 2 * kRowBlock + r,
                            pairs_of(Isa::load(from), Isa::load(from + kRowBlock)));
      }
  }
  const float* probabilities(int64_t begin, int count, const float* shift) const {
    return WideProducts::probabilities(begin, count, shift, [&](float* s) {
      const Bf16Pair* rows[kKeyTile];
      for (int t = 0; t < count; ++t)
        rows[t] =
            reinterpret_cast<const Bf16Pair*>(block.rows.k + (begin + t) * block.rows.k_stride);
      tile_product<true>(rows, count, block.head.head_dim / 2,
                         reinterpret_cast<const Bf16Pair*>(query), s);
    });
  }
};
