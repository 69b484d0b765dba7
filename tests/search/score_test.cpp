// Scores of every candidate against N x N attention in double precision, and against what a plan
// with that candidate executes.
#include "libsearch/search/score.h"

#include <catch2/catch.hpp>

#include <array>
#include <cmath>
#include <functional>
#include <random>

#include "libruntime/plan.h"
#include "libruntime/select.h"
#include "tests/naive.h"
#include "tests/support.h"

namespace mi::search {
namespace {

namespace naive = test::naive;
using kernels::AttentionHead;
using kernels::Backend;
using test::random_normal;

struct Shape {
  int64_t tokens;
  int heads, kv_heads, head_dim;
  float softcap = 0;
  std::vector<float> sinks = {};
};

constexpr int64_t kHidden = 40;

// One layer with its dense attention in double precision, as floats for the scorer.
struct Layer {
  Shape shape;
  Tensor<float, 3> q, k, v, o;
  Tensor<float, 2> lse, residual, wo;
  std::vector<naive::Dense> dense;    // [heads]
  std::vector<naive::Output> output;  // [heads] of dense attention

  Layer(const Shape& s, uint64_t seed)
      : shape(s),
        q({s.heads, s.tokens, s.head_dim}),
        k({s.kv_heads, s.tokens, s.head_dim}),
        v({s.kv_heads, s.tokens, s.head_dim}),
        o({s.heads, s.tokens, s.head_dim}),
        lse({s.heads, s.tokens}),
        residual({s.tokens, kHidden}),
        wo({kHidden, s.heads * s.head_dim}) {
    fill(q, seed, 2);  // peaked enough that selections matter
    fill(k, seed + 1, 1);
    fill(v, seed + 2, 1);
    fill(residual, seed + 3, 1);
    fill(wo, seed + 4, 0.3F);
    for (int h = 0; h < s.heads; ++h) {
      const AttentionHead head = view(h);
      const auto& a = dense.emplace_back(naive::dense(head));
      naive::Selection all;
      for (int64_t m = 0; m < a.blocks(); ++m)
        all.emplace_back(static_cast<size_t>(a.keys_end(m)), char{1});
      const auto& out = output.emplace_back(naive::attend(head, a, all));
      for (int64_t i = 0; i < s.tokens; ++i) {
        lse.view()[h][i] = static_cast<float>(a.lse[static_cast<size_t>(i)]);
        for (int64_t x = 0; x < s.head_dim; ++x)
          o.view()[h][i][x] = static_cast<float>(out.o(i, x));
      }
    }
  }

  template <int Rank>
  static void fill(Tensor<float, Rank>& tensor, uint64_t seed, float sigma) {
    const auto values = random_normal(tensor.span().size(), seed * 104729, sigma);
    std::copy(values.begin(), values.end(), tensor.data());
  }

  [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(shape.head_dim)); }
  [[nodiscard]] AttentionHead view(int h) const {
    const int g = h / (shape.heads / shape.kv_heads);
    return {.q = q.view()[h].data,
            .k = k.view()[g].data,
            .v = v.view()[g].data,
            .q_stride = shape.head_dim,
            .k_stride = shape.head_dim,
            .v_stride = shape.head_dim,
            .n_q = shape.tokens,
            .n_kv = shape.tokens,
            .head_dim = shape.head_dim,
            .scale = scale(),
            .softcap = shape.softcap};
  }
  [[nodiscard]] LayerAttention attention(bool projected) const {
    LayerAttention layer{.q = q.view(),
                         .k = k.view(),
                         .v = v.view(),
                         .k_bf16 = {},
                         .v_bf16 = {},
                         .lse = lse.view(),
                         .sinks = {},
                         .residual = {},
                         .wo = {},
                         .scale = scale(),
                         .softcap = shape.softcap};
    layer.sinks = shape.sinks;
    if (projected) {
      layer.residual = residual.view();
      layer.wo = wo.view();
    }
    return layer;
  }
  // Mass of a row's keys, of `recall` of them, in the softmax with the head's sink.
  [[nodiscard]] double share_of_keys(int h, int64_t i, double recall) const {
    if (shape.sinks.empty()) return 1;
    const double of_keys =
        recall * std::exp(dense[static_cast<size_t>(h)].lse[static_cast<size_t>(i)]);
    return of_keys / (of_keys + std::exp(static_cast<double>(shape.sinks[static_cast<size_t>(h)])));
  }
};

using Scores = std::vector<std::vector<CandidateScore>>;

Scores score(const Layer& layer, const CandidateSpace& space, int64_t last, bool projected,
             const Backend& backend, int threads = 2) {
  LayerScorer scorer(space,
                     {.tokens = layer.shape.tokens,
                      .heads = layer.shape.heads,
                      .kv_heads = layer.shape.kv_heads,
                      .head_dim = layer.shape.head_dim,
                      .last = last,
                      .threads = threads},
                     backend);
  return scorer.score(layer.attention(projected));
}

// Tensors here are f32 numbers: scoring by a backend for bf16 takes them for bf16
// (backend_test.cpp).
const Backend& best_backend() {
  return (*kernels::choose_backend())->f32();
}

// How many row blocks a block stands for in the output error: 0 where it is not scored. One in
// eight is, in the middle of its eight; of short prompts at least four. The last one is another,
// for itself, unless it runs dense.
double error_weight(int64_t blocks, int64_t m, int64_t last) {
  const int64_t stride = std::clamp<int64_t>(blocks / 4, 1, 8);
  if (m % stride == stride / 2) return static_cast<double>(stride);
  return m == blocks - 1 && last == 0 ? 1 : 0;
}

struct Expected {
  double recall = 0, square = 0, p05 = 0, min = 1, last = 0, uniform = 0, error = 0;
  int64_t tiles = 0;
};

// Every number of a candidate from its selection, row by row.
Expected expected_of(const Layer& layer, int h, const naive::Selection& selection, int64_t last,
                     bool projected, bool with_error) {
  const naive::Dense& a = layer.dense[static_cast<size_t>(h)];
  const int64_t n = a.n_q;
  const int d = layer.shape.head_dim;
  Expected want;
  const auto recall = naive::recall(a, selection);
  std::vector<double> blocks;
  for (int64_t m = 0; m < a.blocks(); ++m) {
    double sum = 0;
    for (int64_t i = m * 64; i < a.row_end(m); ++i) {
      const double lost = layer.share_of_keys(h, i, 1) * (1 - recall[static_cast<size_t>(i)]);
      const double kept = 1 - lost;
      sum += kept;
      want.recall += kept / static_cast<double>(n);
      want.square += (1 - kept) * (1 - kept) / static_cast<double>(n);
      int64_t visible = 0;
      for (int64_t j = 0; j <= i; ++j)
        visible += selection[static_cast<size_t>(m)][static_cast<size_t>(j)];
      want.uniform +=
          static_cast<double>(visible) / static_cast<double>(i + 1) / static_cast<double>(n);
    }
    blocks.push_back(sum / static_cast<double>(a.row_end(m) - m * 64));
  }
  want.last = blocks.back();
  std::sort(blocks.begin(), blocks.end());
  want.min = blocks.front();
  // The smallest value that at least 5 % of the blocks do not exceed.
  const auto count = static_cast<double>(blocks.size());
  want.p05 = blocks[static_cast<size_t>(std::ceil(0.05 * count - 1e-9)) - 1];
  want.tiles = naive::tiles(selection);
  if (!with_error) return want;

  const auto sparse = naive::attend(layer.view(h), a, selection);
  const auto& full = layer.output[static_cast<size_t>(h)];
  double rows = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double weight = error_weight(a.blocks(), i / 64, last);
    if (weight == 0) continue;
    rows += weight;
    const double full_share = layer.share_of_keys(h, i, 1);
    const double sparse_share = layer.share_of_keys(h, i, recall[static_cast<size_t>(i)]);
    const auto full_o = [&](int64_t y) { return full_share * full.o(i, y); };
    const auto difference_of = [&](int64_t y) { return full_o(y) - sparse_share * sparse.o(i, y); };
    double norm = 0, difference = 0;
    if (projected) {
      for (int64_t x = 0; x < kHidden; ++x) {
        double through = 0;
        for (int64_t y = 0; y < d; ++y)
          through += static_cast<double>(layer.wo.view()[x][h * d + y]) * difference_of(y);
        difference += through * through;
        const auto r = static_cast<double>(layer.residual.view()[i][x]);
        norm += r * r;
      }
    } else {
      for (int64_t y = 0; y < d; ++y) {
        difference += difference_of(y) * difference_of(y);
        norm += full_o(y) * full_o(y);
      }
    }
    want.error += weight * difference / norm;
  }
  want.error = rows > 0 ? want.error / rows : 0;
  return want;
}

// The threshold of a candidate and its estimator's parameters, from what the candidate is called.
double threshold(const Family& family, size_t index) {
  const double value = family.values[index];
  if (family.params.pattern == runtime::Pattern::a_shape) return 1 / value;
  return family.params.counts ? 1 / value : value;
}

// f32 sums of up to 700 probabilities and a float log-sum-exp of up to 10.
constexpr double kRecallTolerance = 1e-5;
// Root of the mean squared output error, whose parts are sums of f32 products of order 1.
constexpr double kErrorTolerance = 5e-5;

struct Checked {
  int64_t exact = 0, bounded = 0;
};

void check_scores(const Layer& layer, const CandidateSpace& space, int64_t last, bool projected,
                  const Scores& scores, size_t every, size_t error_every, Checked& checked) {
  const runtime::CallShape call{layer.shape.tokens, layer.shape.tokens, layer.shape.head_dim};
  for (int h = 0; h < layer.shape.heads; ++h) {
    const auto& head_scores = scores[static_cast<size_t>(h)];
    const naive::Dense& a = layer.dense[static_cast<size_t>(h)];
    REQUIRE(head_scores.size() == space.candidates());
    size_t candidate = 0;
    for (const Family& family : space.families) {
      runtime::EstimatorParams params = family.params;
      params.last = last;
      const auto estimates = naive::estimates(layer.view(h), a, params);
      const double flops = runtime::make_estimator(params)->flops(call);
      naive::Selection previous;
      Expected want;
      bool with_error = false;
      for (size_t c = 0; c < family.values.size(); ++c, ++candidate) {
        if (candidate % every != 0) continue;
        const double lambda = threshold(family, c);
        const auto [low, high] = naive::select(a, estimates, lambda, !family.params.counts);
        const CandidateScore& got = head_scores[candidate];
        INFO("head " << h << " " << family.describe(c));
        if (low != high) {
          const auto least = expected_of(layer, h, low, last, projected, false);
          const auto most = expected_of(layer, h, high, last, projected, false);
          CHECK(got.recall >= least.recall - kRecallTolerance);
          CHECK(got.recall <= most.recall + kRecallTolerance);
          CHECK(got.share >= runtime::cost_share(call, least.tiles, flops));
          CHECK(got.share <= runtime::cost_share(call, most.tiles, flops));
          ++checked.bounded;
          continue;
        }
        const bool error_now = candidate % error_every == 0;
        if (low != previous || (error_now && !with_error)) {
          want = expected_of(layer, h, low, last, projected, error_now);
          with_error = error_now;
          previous = low;
        }
        CHECK(got.recall == Approx(want.recall).margin(kRecallTolerance).epsilon(0));
        CHECK(got.square == Approx(want.square).margin(2 * kRecallTolerance).epsilon(0));
        CHECK(got.recall_p05 == Approx(want.p05).margin(kRecallTolerance).epsilon(0));
        CHECK(got.recall_min == Approx(want.min).margin(kRecallTolerance).epsilon(0));
        CHECK(got.recall_last == Approx(want.last).margin(kRecallTolerance).epsilon(0));
        CHECK(got.uniform_recall == Approx(want.uniform).margin(1e-9).epsilon(0));
        CHECK(got.share == runtime::cost_share(call, want.tiles, flops));
        if (with_error)
          CHECK(std::sqrt(got.error) ==
                Approx(std::sqrt(want.error)).margin(kErrorTolerance).epsilon(0));
        ++checked.exact;
      }
    }
    const CandidateScore& dense = head_scores.back();
    CHECK(dense.recall == 1);
    CHECK(dense.recall_p05 == 1);
    CHECK(dense.recall_last == 1);
    CHECK(dense.share == 1);
    CHECK(dense.error == 0);
    CHECK(dense.square == 0);
  }
}

TEST_CASE("scores of all candidates equal brute force", "[cpu]") {
  const Shape shapes[] = {
      {1, 2, 1, 8},    {63, 1, 1, 16},      {64, 2, 1, 8},   {65, 4, 2, 16},
      {130, 3, 1, 16}, {333, 4, 2, 16, 15}, {700, 2, 1, 16}, {200, 2, 1, 16, 0, {6, -60}}};
  const int64_t lasts[] = {0, 64, 1, 64, 0, 64, 100, 0};
  Checked checked;
  for (size_t s = 0; s < std::size(shapes); ++s) {
    const Layer layer(shapes[s], 100 + s);
    const int64_t n = shapes[s].tokens;
    for (const bool projected : {true, false}) {
      if (n == 700 && !projected) continue;
      for (const bool published : {false, true}) {
        const auto space = published ? published_candidates(n) : default_candidates();
        INFO("tokens " << n << " last " << lasts[s] << " projected " << projected << " published "
                       << published << " seed " << 100 + s);
        const Scores scores = score(layer, space, lasts[s], projected, best_backend());
        const size_t every = published && n > 200 ? 5 : 1;
        check_scores(layer, space, lasts[s], projected, scores, every,
                     n == 700 || published ? 5 : 1, checked);
      }
    }
  }
  // Where rounding could move a key across a threshold only bounds are checked: rare.
  INFO("exact " << checked.exact << " bounded " << checked.bounded);
  CHECK(checked.bounded * 20 <= checked.exact);
}

TEST_CASE("every backend scores alike", "[cpu]") {
  const Layer layer({200, 4, 2, 24, 0, {}}, 300);
  test::for_each_backend([&](const Backend& backend) {
    Checked checked;
    const auto space = default_candidates();
    check_scores(layer, space, 64, true, score(layer, space, 64, true, backend.f32()), 3, 6,
                 checked);
    CHECK(checked.bounded * 20 <= checked.exact);
  });
}

TEST_CASE("what is scored without extras is scored alike", "[cpu]") {
  const Layer layer({700, 2, 1, 16}, 500);
  const auto space = default_candidates();
  const Scores want = score(layer, space, 0, true, best_backend());
  LayerScorer scorer(
      space, {.tokens = 700, .heads = 2, .kv_heads = 1, .head_dim = 16, .last = 0, .extras = false},
      best_backend());
  const Scores got = scorer.score(layer.attention(true));
  for (size_t h = 0; h < 2; ++h) {
    for (size_t c = 0; c < space.candidates(); ++c) {
      CHECK(got[h][c].recall == want[h][c].recall);
      CHECK(got[h][c].recall_p05 == want[h][c].recall_p05);
      CHECK(got[h][c].error == want[h][c].error);
      CHECK(got[h][c].share == want[h][c].share);
      CHECK(got[h][c].oracle_lost == want[h][c].oracle_lost);
      CHECK(got[h][c].uniform_recall == want[h][c].uniform_recall);
      CHECK(got[h][c].square == 0);
    }
  }
}

TEST_CASE("output error is scored on a sample of row blocks with its weights", "[cpu]") {
  const Layer layer({2100, 1, 1, 8, 0}, 400);  // 33 row blocks
  CandidateSpace space;
  for (const Family& family : default_candidates().families) {
    Family thin = family;
    thin.values = {family.values.begin() + 3, family.values.begin() + 5};
    if (family.params.pattern == runtime::Pattern::a_shape) thin.values = {32, 500};
    space.families.push_back(thin);
  }
  for (const int64_t last : {0, 64}) {
    INFO("last " << last);
    Checked checked;
    check_scores(layer, space, last, true, score(layer, space, last, true, best_backend()), 1, 1,
                 checked);
    CHECK(checked.exact > checked.bounded);
  }
}

TEST_CASE("a selection that loses mass has an output error at any length", "[cpu]") {
  for (const int64_t tokens : {130, 193, 257, 333, 450, 600}) {
    const Layer layer({tokens, 1, 1, 16, 0}, 500);
    CandidateSpace space = default_candidates();
    const Scores scores = score(layer, space, 64, true, best_backend());
    for (size_t c = 0; c < scores[0].size(); ++c) {
      INFO("tokens " << tokens << " candidate " << c);
      if (scores[0][c].recall < 0.999) CHECK(scores[0][c].error > 0);
      if (scores[0][c].recall == 1) CHECK(scores[0][c].error < 1e-9);
    }
  }
}

TEST_CASE("recall never falls along a family, nor cost", "[cpu]") {
  for (const int64_t tokens : {65, 130, 333, 700}) {
    const Layer layer({tokens, 2, 1, 16, 0}, 600 + static_cast<uint64_t>(tokens));
    for (const auto& space : {default_candidates(), published_candidates(tokens)}) {
      const Scores scores = score(layer, space, 0, false, best_backend());
      for (const auto& head : scores) {
        size_t at = 0;
        for (const Family& family : space.families) {
          for (size_t c = 1; c < family.values.size(); ++c) {
            const CandidateScore& less = head[at + c - 1];
            const CandidateScore& more = head[at + c];
            INFO("tokens " << tokens << " " << family.describe(c));
            CHECK(more.recall >= less.recall);
            CHECK(more.square <= less.square);
            CHECK(more.share >= less.share);
            CHECK(more.recall_min >= less.recall_min);
            CHECK(more.recall_p05 >= less.recall_p05);
            CHECK(more.uniform_recall >= less.uniform_recall);
          }
          at += family.values.size();
        }
      }
    }
  }
}

TEST_CASE("the oracle loses no more than any candidate of equal cost", "[cpu]") {
  const Layer layer({450, 2, 2, 16, 0}, 700);
  const auto space = default_candidates();
  const Scores scores = score(layer, space, 64, false, best_backend());
  for (int h = 0; h < 2; ++h) {
    const naive::Dense& a = layer.dense[static_cast<size_t>(h)];
    std::vector<double> masses;
    for (int64_t m = 0; m < a.blocks(); ++m)
      for (int64_t j = 0; j < a.keys_end(m); ++j) {
        double mass = 0;
        for (int64_t i = std::max(j, m * 64); i < a.row_end(m); ++i) mass += a.p(i, j);
        masses.push_back(mass);
      }
    std::sort(masses.rbegin(), masses.rend());
    size_t at = 0;
    for (const Family& family : space.families) {
      runtime::EstimatorParams params = family.params;
      params.last = 64;
      const auto estimates = naive::estimates(layer.view(h), a, params);
      for (size_t c = 0; c < family.values.size(); ++c, ++at) {
        const auto [low, high] =
            naive::select(a, estimates, threshold(family, c), !family.params.counts);
        if (low != high) continue;
        const auto keys =
            std::min(masses.size(), static_cast<size_t>(naive::tiles(low)) * size_t{64});
        double kept = 0;
        for (size_t i = 0; i < keys; ++i) kept += masses[i];
        const double lost = 1 - kept / static_cast<double>(a.n_q);
        const CandidateScore& got = scores[static_cast<size_t>(h)][at];
        INFO("head " << h << " " << family.describe(c));
        // Masses are binned by eighths of an octave: what straddles the budget counts as the
        // mean of its bin, at most an eighth off.
        CHECK(got.oracle_lost >= lost - kRecallTolerance);
        CHECK(got.oracle_lost <= lost + 0.01);
        CHECK(got.oracle_lost <= 1 - got.recall + 0.01);
      }
    }
  }
}

TEST_CASE("scoring gives the same bits for any number of threads", "[cpu]") {
  const Layer layer({333, 4, 2, 16, 0}, 800);
  const auto space = default_candidates();
  const Scores one = score(layer, space, 64, true, best_backend(), 1);
  for (int threads : {2, 3}) {
    const Scores many = score(layer, space, 64, true, best_backend(), threads);
    for (size_t h = 0; h < one.size(); ++h)
      for (size_t c = 0; c < one[h].size(); ++c) {
        INFO("threads " << threads << " head " << h << " candidate " << c);
        CHECK(one[h][c].recall == many[h][c].recall);
        CHECK(one[h][c].square == many[h][c].square);
        CHECK(one[h][c].error == many[h][c].error);
        CHECK(one[h][c].share == many[h][c].share);
        CHECK(one[h][c].oracle_lost == many[h][c].oracle_lost);
      }
  }
}

TEST_CASE("a scorer can be used again for another layer", "[cpu]") {
  const Shape shape{200, 2, 1, 16, 0};
  const Layer first(shape, 900), second(shape, 950);
  const auto space = default_candidates();
  LayerScorer scorer(space, {.tokens = 200, .heads = 2, .kv_heads = 1, .head_dim = 16},
                     best_backend());
  [[maybe_unused]] const auto used = scorer.score(first.attention(true));
  const Scores again = scorer.score(second.attention(false));
  const Scores fresh = score(second, space, 64, false, best_backend(), 1);
  for (size_t h = 0; h < 2; ++h)
    for (size_t c = 0; c < fresh[h].size(); ++c) {
      CHECK(again[h][c].recall == fresh[h][c].recall);
      CHECK(again[h][c].error == fresh[h][c].error);
      CHECK(again[h][c].oracle_lost == fresh[h][c].oracle_lost);
    }
}

// The entry that a config gets for a candidate.
runtime::HeadEntry entry_of(const CandidateSpace& space, size_t candidate, int64_t length) {
  const CandidateId id = candidate_id(space, candidate);
  if (id.family == space.families.size()) return {};
  runtime::HeadEntry entry = space.families[id.family].entry();
  space.families[id.family].set_values(entry, id.index, length);
  return entry;
}

struct Measured {
  Tensor<float, 2> lse;
  std::vector<runtime::HeadStats> stats;
};

Measured run_candidate(const Layer& layer, const runtime::HeadEntry& entry, int64_t last) {
  const Shape& s = layer.shape;
  runtime::HeadConfig config;
  config.model.layers = 1;
  config.model.heads = s.heads;
  config.model.kv_heads = s.kv_heads;
  config.model.head_dim = s.head_dim;
  config.kernel.last = last;
  config.layers.emplace_back(static_cast<size_t>(s.heads), entry);
  auto plan = runtime::Plan::make(config,
                                  {.n_q = s.tokens,
                                   .n_kv = s.tokens,
                                   .heads = s.heads,
                                   .kv_heads = s.kv_heads,
                                   .head_dim = s.head_dim,
                                   .softcap = s.softcap},
                                  best_backend(), 1);
  REQUIRE(plan);
  AlignedBuffer<char> workspace(plan->workspace_bytes());
  Tensor<float, 3> o({s.heads, s.tokens, s.head_dim});
  Measured measured{Tensor<float, 2>({s.heads, s.tokens}),
                    std::vector<runtime::HeadStats>(static_cast<size_t>(s.heads))};
  runtime::Unspent unspent;
  REQUIRE(plan->run(0, layer.q.view(), layer.k.view(), layer.v.view(), o.view(),
                    measured.lse.view(), workspace.data(), measured.stats, unspent));
  return measured;
}

TEST_CASE("what is scored is what runs", "[cpu]") {
  for (const auto& [tokens, last] : {std::pair<int64_t, int64_t>{130, 0}, {333, 64}, {700, 64}}) {
    const Layer layer({tokens, 3, 1, 16, tokens == 333 ? 15.0F : 0.0F}, 1000);
    const Measured dense = run_candidate(layer, {}, last);
    for (const bool published : {false, true}) {
      const auto space = published ? published_candidates(tokens) : default_candidates();
      const Scores scores = score(layer, space, last, true, best_backend());
      for (size_t c = 0; c < space.candidates(); c += published ? 4 : 1) {
        const Measured run = run_candidate(layer, entry_of(space, c, tokens), last);
        const CandidateId id = candidate_id(space, c);
        for (int h = 0; h < layer.shape.heads; ++h) {
          const auto at = static_cast<size_t>(h);
          double recall = 0;
          for (int64_t i = 0; i < tokens; ++i)
            recall += std::exp(static_cast<double>(run.lse.view()[h][i]) -
                               static_cast<double>(dense.lse.view()[h][i])) /
                      static_cast<double>(tokens);
          const std::string name = id.family < space.families.size()
                                       ? space.families[id.family].describe(id.index)
                                       : "dense";
          INFO("tokens " << tokens << " head " << h << " " << name);
          CHECK(scores[at][c].recall == Approx(recall).margin(1e-4).epsilon(0));
          CHECK(scores[at][c].share == run.stats[at].share);
          CHECK(!run.stats[at].capped);
        }
      }
    }
  }
}

// Counts round when a factor is multiplied out: on a long prompt ranks reach far.
TEST_CASE("an entry selects the keys that its candidate was scored with", "[cpu]") {
  constexpr int64_t kTokens = 24000;
  const auto values = random_normal(static_cast<size_t>(kTokens * 8), 1100);
  const AttentionHead head{.q = values.data(),
                           .k = values.data(),
                           .v = values.data(),
                           .q_stride = 8,
                           .k_stride = 8,
                           .v_stride = 8,
                           .n_q = kTokens,
                           .n_kv = kTokens,
                           .head_dim = 8,
                           .scale = 0.35F};
  const runtime::CallShape call{kTokens, kTokens, 8};
  const Backend& backend = best_backend();
  const int64_t block = call.row_blocks() - 1;
  const auto keys_of = [&](const runtime::Estimator& estimator, const std::vector<float>& lambdas) {
    AlignedBuffer<float> evidence(estimator.evidence_floats(call));
    AlignedBuffer<float> scratch(estimator.scratch_floats(call));
    AlignedBuffer<char> kernel(backend.scratch_bytes(std::max(8, estimator.probability_dim(call))));
    const runtime::EstimatorMemory memory{evidence.data(), scratch.data(), kernel.data()};
    std::vector<float> e(static_cast<size_t>(kTokens));
    estimator.prepare(head, backend, memory);
    estimator.rows(head, backend, memory, block, block + 1, e.data(), kTokens);
    std::vector<std::vector<uint64_t>> selected;
    for (float lambda : lambdas) {
      auto& words = selected.emplace_back(static_cast<size_t>(kernels::bitmap_words(kTokens)));
      runtime::select_keys(backend, e.data(), call.keys_end(block), lambda, words.data());
    }
    return selected;
  };
  for (const auto& space : {default_candidates(), published_candidates(kTokens)}) {
    for (const Family& family : space.families) {
      std::vector<float> lambdas;
      for (size_t c = 0; c < family.values.size(); ++c) lambdas.push_back(family.lambda(c));
      const auto scored = keys_of(*runtime::make_estimator(family.params), lambdas);
      for (size_t c = 0; c<family.values.size(); c += family.values.size()> 50 ? 9 : 1) {
        runtime::HeadEntry entry = family.entry();
        family.set_values(entry, c, kTokens);
        runtime::HeadConfig::Kernel kernel;
        kernel.last = 0;
        const auto resolved = runtime::resolve_head(entry, kernel, kTokens);
        REQUIRE(resolved);
        INFO(family.describe(c));
        CHECK(keys_of(*runtime::make_estimator(resolved->params), {resolved->lambda})[0] ==
              scored[c]);
      }
    }
  }
}

}  // namespace
}  // namespace mi::search
