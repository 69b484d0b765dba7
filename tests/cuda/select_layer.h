// Selection on a device or the emulator of one, from codes that no estimate has made, against what
// the words of select_call.h say and, for windows, against libruntime.
#pragma once

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "libruntime/estimator.h"
#include "libruntime/patterns/patterns.h"
#include "libruntime/select.h"
#include "tests/cuda/under_test.h"

namespace mi::test::cuda {
using kernels::cuda::Cut;
using kernels::cuda::HeadRule;
using kernels::cuda::HeadWords;
using kernels::cuda::KeyRule;
using kernels::cuda::kRaises;
using kernels::cuda::RowBlock;
using kernels::cuda::SelectCall;
using Bits = std::vector<uint64_t>;
struct alignas(16) Codes16 {
  uint8_t code[16];
};

struct SelectLayer {
  HeadWords shape;
  std::vector<HeadRule> heads = {};
  double cap = 0;
  double unspent = 0;
};

inline HeadRule window_rule(int64_t window, int32_t sink, int32_t last, int32_t local = 0) {
  HeadRule rule{.rule = KeyRule::window, .sink = sink, .local = local, .last = last};
  for (int i = 0; i <= kRaises; ++i)
    rule.reach[i] = static_cast<int32_t>(runtime::patterns::distances_above(
        runtime::raised(1 / static_cast<float>(window), i), 1 << 20));
  return rule;
}

// Codes number `kind` of a cycle.
inline uint8_t random_code(int kind, std::mt19937_64& engine) {
  switch (kind % 6) {
    case 0:
      return static_cast<uint8_t>(engine());
    case 1:
      return 0;
    case 2:
      return 255;
    case 3:
      return static_cast<uint8_t>(engine() % 10 == 0 ? 180 + engine() % 76 : engine() % 3);
    case 4:
      return 191;
    default:
      return static_cast<uint8_t>(188 + engine() % 8);
  }
}

inline runtime::EstimatorParams params_of(const HeadRule& rule, runtime::Pattern pattern) {
  runtime::EstimatorParams params;
  params.pattern = pattern;
  params.sink = rule.sink;
  params.local = rule.local;
  params.last = rule.last;
  return params;
}

// What libruntime selects of a window after so many raises, for all row blocks.
struct WindowKeys {
  Bits bits;  // [row_blocks, bitmap_words(n_kv)]
  std::vector<int64_t> tiles;

  WindowKeys(const HeadRule& rule, const kernels::AttentionHead& head, int raise)
      : bits(static_cast<size_t>(head.row_blocks() * kernels::bitmap_words(head.n_kv))),
        tiles(static_cast<size_t>(head.row_blocks())) {
    runtime::make_estimator(params_of(rule, runtime::Pattern::a_shape))
        ->select(head, **kernels::choose_backend("cpu_generic"), {}, 0, head.row_blocks(),
                 runtime::raised(1 / static_cast<float>(rule.reach[0]), raise),
                 {.words = bits.data(), .tiles = tiles.data()});
  }
};

// What a row block attends after so many raises: its bitmap, and in `tiles` how many tiles. By
// sorting all of its keys.
inline Bits host_selection(const HeadRule& rule, const kernels::AttentionHead& head, int64_t block,
                           const uint8_t* codes, int raise, int64_t* tiles) {
  const int64_t keys = head.keys_end(block);
  const runtime::EstimatorParams params = params_of(rule, runtime::Pattern::stripe);
  const runtime::KeyRange unforced = runtime::unforced_keys(params, head, block);
  const auto code = [&](int64_t j) {
    return j < unforced.begin || j >= unforced.end ? 256 : int{codes[j]};
  };
  std::vector<int64_t> order(static_cast<size_t>(keys));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return code(a) > code(b); });
  const int64_t selected = std::count_if(order.begin(), order.end(), [&](int64_t j) {
    return code(j) >= kernels::kCodeAtThreshold + 2 * raise;
  });
  *tiles = runtime::tiles_for(selected);
  Bits bits(static_cast<size_t>(kernels::bitmap_words(keys)));
  for (int64_t i = 0; i < std::min(*tiles * 64, keys); ++i) {
    const int64_t j = order[static_cast<size_t>(i)];
    bits[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
  }
  return bits;
}

// Empty if cuts, raises, what is left and every bitmap are as they should be, and nothing else is
// written. `kind`: of the codes of the first row block; *raises: what was found.
[[nodiscard]] inline std::string check_select(const SelectLayer& of, int kind, uint64_t seed,
                                              std::vector<int32_t>* raises = nullptr) {
  std::mt19937_64 engine(seed);
  const auto heads = static_cast<int64_t>(of.heads.size());
  const int64_t row_blocks = of.shape.row_blocks();
  kernels::AttentionHead head;
  head.n_q = of.shape.n_q;
  head.n_kv = of.shape.n_kv;
  std::vector<Codes16> codes(static_cast<size_t>(heads * of.shape.count() * 4));
  auto* const code = reinterpret_cast<uint8_t*>(codes.data());
  const auto first_word = [&](int64_t h, int64_t m) {
    return h * of.shape.count() + of.shape.before(m);
  };
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t m = 0; m < row_blocks; ++m, ++kind)
      for (int64_t j = 0; j < kernels::bitmap_words(head.keys_end(m)) * 64; ++j)
        code[first_word(h, m) * 64 + j] = random_code(kind, engine);

  Bits words(static_cast<size_t>(heads * of.shape.count()), 0xdeadbeefdeadbeef);
  Bits want = words;
  std::vector<RowBlock> blocks(static_cast<size_t>(heads * row_blocks));
  std::vector<Cut> cuts(blocks.size() * (kRaises + 1));
  double unspent = of.unspent;
  std::vector<int64_t> sums(of.heads.size() * (kRaises + 1));
  std::vector<int32_t> found(of.heads.size());
  bool shares_cap = false;
  for (const HeadRule& rule : of.heads) shares_cap = shares_cap || rule.shares_cap != 0;
  const auto launch = make_launch<bf16, 64, SelectCall, bool>();  // the same for every one
  const SelectCall call{
      .heads = launch->input(of.heads),
      .num_heads = static_cast<int32_t>(heads),
      .first_head = 3,
      .shape = of.shape,
      .codes = reinterpret_cast<const uint8_t*>(launch->input(codes)),
      .words = launch->output(words),
      .blocks = launch->output(blocks),
      .cuts = launch->output(cuts),
      .cap = of.cap,
      .unspent = launch->output(&unspent, 1),
      .tiles = launch->output(sums),
      .raises = launch->output(found),
  };
  std::string wrong = launch->run(call, shares_cap).wrong;
  if (!wrong.empty()) return wrong;

  std::map<std::pair<int64_t, int>, WindowKeys> windows;
  const auto keys_of = [&](int64_t h, int64_t m, int steps, int64_t* tiles) {
    const HeadRule& rule = of.heads[static_cast<size_t>(h)];
    if (rule.rule == KeyRule::every_key) {
      *tiles = runtime::tiles_for(head.keys_end(m));
      return Bits{};
    }
    if (rule.rule == KeyRule::codes)
      return host_selection(rule, head, m, code + first_word(h, m) * 64, steps, tiles);
    const WindowKeys& all =
        windows.try_emplace(std::pair(h, steps), rule, head, steps).first->second;
    *tiles = all.tiles[static_cast<size_t>(m)];
    const auto begin = all.bits.begin() + m * kernels::bitmap_words(head.n_kv);
    return Bits(begin, begin + kernels::bitmap_words(head.keys_end(m)));
  };
  // Tiles of each head after each raise.
  std::vector<std::vector<double>> spent(of.heads.size(), std::vector<double>(kRaises + 1));
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t m = 0; m < row_blocks; ++m)
      for (int i = 0; i <= kRaises; ++i) {
        int64_t tiles = 0;
        (void)keys_of(h, m, i, &tiles);
        const Cut& cut = cuts[static_cast<size_t>((h * row_blocks + m) * (kRaises + 1) + i)];
        if (cut.tiles != tiles)
          wrong += "tiles after " + std::to_string(i) + " raises: got " +
                   std::to_string(cut.tiles) + ", expected " + std::to_string(tiles) + "\n";
        spent[static_cast<size_t>(h)][static_cast<size_t>(i)] += static_cast<double>(tiles);
      }
  const auto with_raise = [&](size_t h, size_t steps) {
    return steps == 0 ? spent[h][0] : of.heads[h].second_look + spent[h][steps];
  };
  const auto cost = [&](size_t steps) {
    double sum = 0;
    for (size_t h = 0; h < of.heads.size(); ++h)
      if (of.heads[h].shares_cap != 0) sum += std::min(spent[h][0], with_raise(h, steps));
    return sum;
  };
  const double affordable = of.unspent + of.cap;
  size_t steps = 0;
  while (steps < kRaises && cost(steps) > affordable) ++steps;
  std::vector<int32_t> expected(of.heads.size());
  for (size_t h = 0; h < of.heads.size(); ++h)
    if (of.heads[h].shares_cap != 0 && with_raise(h, steps) < spent[h][0])
      expected[h] = static_cast<int32_t>(steps);
  for (size_t h = 0; h < of.heads.size(); ++h)
    if (of.heads[h].shares_cap != 0 && found[h] != expected[h])
      wrong += "raises of head " + std::to_string(h) + ": got " + std::to_string(found[h]) +
               ", expected " + std::to_string(expected[h]) + "\n";
  if (unspent != (shares_cap ? affordable - cost(steps) : of.unspent))
    wrong += "unspent: got " + std::to_string(unspent) + "\n";
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t m = 0; m < row_blocks; ++m) {
      const HeadRule& rule = of.heads[static_cast<size_t>(h)];
      int64_t tiles = 0;
      const Bits bits = keys_of(h, m, expected[static_cast<size_t>(h)], &tiles);
      std::copy(bits.begin(), bits.end(), want.begin() + first_word(h, m));
      const RowBlock& got = blocks[static_cast<size_t>(h * row_blocks + m)];
      uint64_t* const keys =
          rule.rule == KeyRule::every_key ? nullptr : call.words + first_word(h, m);
      if (got.head != h + 3 || got.block != m || got.keys_end != head.keys_end(m) ||
          got.keys != keys)
        wrong +=
            "row block " + std::to_string(m) + " of head " + std::to_string(h) + ": another one\n";
    }
  if (words != want) wrong += "other keys\n";
  if (raises != nullptr) *raises = expected;
  return wrong;
}

}  // namespace mi::test::cuda
