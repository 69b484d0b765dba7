// The softmax of attention-inl.h as attend_keys runs it, products left out. Included inside a
// target region after attention-inl.h.

struct NoProducts {
  using Softmax = WideSoftmax;
  void score(const int32_t*, int, float*) const {}
  void add_output(const int32_t*, int, const float*, float*) const {}
};

// Every key tile of one row block: scaling, maximum, exponential, sum, and O [64, 64] rescaled. The
// scores of a tile are the probabilities of the one before; no instruction's time depends on them.
inline double run_softmax(float* memory) {
  constexpr int64_t kTiles = 2000;  // 1 to 10 ms
  constexpr int kDim = 64;
  Carver carve{reinterpret_cast<char*>(memory)};
  const BlockState state(carve, kDim);
  for (int i = 0; i < kAttendKeys * kRowBlock; ++i) state.s[i] = 1;
  AttentionHead head;
  head.n_q = kRowBlock;
  head.n_kv = kTiles * kKeyTile;
  head.head_dim = kDim;
  head.scale = 1;
  return static_cast<double>(attend_keys(NoProducts(), head, 0, nullptr, state));
}
