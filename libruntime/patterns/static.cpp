// dense, and a_shape (StreamingLLM's sinks and window, arXiv 2309.17453; MInference 1.0 §3).
// With `last` dense rows a_shape is MInference's tri_shape.
#include <algorithm>
#include <cmath>

#include "libruntime/patterns/patterns.h"
#include "libruntime/select.h"

namespace mi::runtime::patterns {
namespace {

// A key at distance t from the block's first row: e = 1/(t + 1/2), so that e > 1/local keeps
// distances 0 .. local-1 of some row.
float estimate_at(int64_t distance) {
  return 1.0f / (static_cast<float>(distance) + 0.5f);
}

void set_bits(int64_t begin, int64_t end, uint64_t* words) {
  for (int64_t j = begin; j < end;) {
    const int64_t next = std::min(end, (j / 64 + 1) * 64);
    words[j / 64] |= ~uint64_t{0} >> (64 - (next - j)) << (j % 64);
    j = next;
  }
}

class Static final : public Estimator {
 public:
  using Estimator::Estimator;
  [[nodiscard]] double flops(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t evidence_floats(const CallShape&) const override { return 0; }
  [[nodiscard]] size_t scratch_floats(const CallShape&) const override { return 0; }
  [[nodiscard]] int probability_dim(const CallShape&) const override { return 0; }
  void prepare(const kernels::AttentionHead&, const kernels::Backend&,
               const EstimatorMemory&) const override {}
  // What the base class does by looking at every key, which took as long as a window's attention.
  void select(const kernels::AttentionHead& head, const kernels::Backend& backend,
              const EstimatorMemory& memory, int64_t begin, int64_t end, float lambda,
              const Selection& out) const override {
    if (out.bins != nullptr)
      return Estimator::select(head, backend, memory, begin, end, lambda, out);
    int64_t reach[kRaises + 1];
    for (int i = 0; i <= kRaises; ++i) reach[i] = distances_above(raised(lambda, i), head.n_kv);
    for (int64_t m = begin; m < end; ++m) {
      const int64_t keys = head.keys_end(m);
      const int64_t first = head.first_row(m) + head.offset();
      const KeyRange unforced = unforced_keys(params(), head, m);
      const auto window_begin = [&](int i) {
        return std::clamp(first - reach[i] + 1, unforced.begin, unforced.end);
      };
      const auto selected = [&](int i) { return unforced.begin + keys - window_begin(i); };
      if (out.raises != nullptr)
        for (int i = 0; i <= kRaises; ++i)
          out.raises[m * (kRaises + 1) + i] =
              static_cast<uint32_t>(i == kRaises ? selected(i) : selected(i) - selected(i + 1));
      const int64_t tiles = tiles_for(selected(0));
      const int64_t filled = std::min(tiles * kernels::kKeyTile, keys) - selected(0);
      uint64_t* words = out.words + m * kernels::bitmap_words(head.n_kv);
      std::fill(words, words + kernels::bitmap_words(keys), uint64_t{0});
      set_bits(0, unforced.begin, words);
      set_bits(window_begin(0) - filled, keys, words);
      out.tiles[m] = tiles;
    }
  }

 protected:
  void estimate(const kernels::AttentionHead& head, const kernels::Backend&, const EstimatorMemory&,
                int64_t begin, int64_t end, float* e, int64_t e_stride) const override {
    for (int64_t m = begin; m < end; ++m) {
      float* row = e + (m - begin) * e_stride;
      const int64_t first = head.first_row(m) + head.offset();
      for (int64_t j = 0; j < head.keys_end(m); ++j)
        row[j] = estimate_at(std::max<int64_t>(0, first - j));
    }
  }
};

}  // namespace

int64_t distances_above(float lambda, int64_t most) {
  const double guess = std::floor(1 / static_cast<double>(lambda));
  auto count = static_cast<int64_t>(std::clamp(guess, 0.0, static_cast<double>(most)));
  while (count < most && estimate_at(count) > lambda) ++count;
  while (count > 0 && !(estimate_at(count - 1) > lambda)) --count;
  return count;
}

std::unique_ptr<const Estimator> make_static(const EstimatorParams& params) {
  return std::make_unique<Static>(params);
}

}  // namespace mi::runtime::patterns
