// A plan's output against attention over the naive selection, N x N in double precision.
#include "libruntime/plan.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <random>

#include <fmt/format.h>

#include "kernels/reference.h"
#include "tests/naive.h"
#include "tests/support.h"

// Allocations of the calling thread while a count is on: operator new and, unless a sanitizer owns
// them, glibc's malloc family.
namespace {
thread_local bool counting = false;
thread_local int64_t allocations = 0;
[[maybe_unused]] void note_allocation() {
  if (counting) ++allocations;
}
}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MI_COUNTS_ALLOCATIONS 0
#else
#define MI_COUNTS_ALLOCATIONS 1
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* pointer, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void* malloc(size_t size) {
  note_allocation();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  note_allocation();
  return __libc_calloc(count, size);
}
void* realloc(void* pointer, size_t size) {
  note_allocation();
  return __libc_realloc(pointer, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  note_allocation();
  return __libc_memalign(alignment, size);
}
}
#endif

namespace mi::runtime {
namespace {

namespace naive = test::naive;
using kernels::AttentionHead;
using kernels::Backend;
using test::for_each_backend;
using test::random_normal;

struct Case {
  int64_t n_q, n_kv;
  int heads, kv_heads, head_dim;
  float softcap = 0;
};

const Case kCases[] = {{1, 1, 2, 1, 8},      {1, 64, 1, 1, 16},    {1, 200, 4, 2, 64},
                       {63, 63, 3, 1, 8},    {64, 64, 2, 2, 80},   {65, 65, 4, 2, 64},
                       {65, 190, 2, 1, 16},  {128, 129, 2, 2, 64}, {200, 333, 4, 1, 32, 20},
                       {333, 333, 6, 2, 64}, {64, 577, 4, 2, 16},  {450, 700, 3, 3, 8}};

struct Tensors {
  Tensor<float, 3> q, k, v;
  Tensors(const Case& c, uint64_t seed, float sigma = 1)
      : q({c.heads, c.n_q, c.head_dim}),
        k({c.kv_heads, c.n_kv, c.head_dim}),
        v({c.kv_heads, c.n_kv, c.head_dim}) {
    for (Tensor<float, 3>* tensor : {&q, &k, &v}) {
      const auto values = random_normal(tensor->span().size(), ++seed * 7919, sigma);
      std::copy(values.begin(), values.end(), tensor->data());
      sigma = 1;
    }
  }
};

AttentionHead head_of(const Case& c, const Tensors& t, int h) {
  const int g = h / (c.heads / c.kv_heads);
  return {.q = t.q.view()[h].data,
          .k = t.k.view()[g].data,
          .v = t.v.view()[g].data,
          .q_stride = c.head_dim,
          .k_stride = c.head_dim,
          .v_stride = c.head_dim,
          .n_q = c.n_q,
          .n_kv = c.n_kv,
          .head_dim = c.head_dim,
          .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
          .softcap = c.softcap};
}

PlanShape shape_of(const Case& c) {
  return {.n_q = c.n_q,
          .n_kv = c.n_kv,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .softcap = c.softcap};
}

HeadConfig config_of(const Case& c, std::vector<std::vector<HeadEntry>> layers, int64_t last) {
  HeadConfig config;
  config.model.name = "test";
  config.model.layers = static_cast<int>(layers.size());
  config.model.heads = c.heads;
  config.model.kv_heads = c.kv_heads;
  config.model.head_dim = c.head_dim;
  config.kernel.last = last;
  config.layers = std::move(layers);
  return config;
}

// Everything that a run writes.
struct Run {
  Tensor<float, 3> o;
  Tensor<float, 2> lse;
  std::vector<HeadStats> stats;
  explicit Run(const Case& c)
      : o({c.heads, c.n_q, c.head_dim}),
        lse({c.heads, c.n_q}),
        stats(static_cast<size_t>(c.heads)) {}
};

Run run_plan(const HeadConfig& config, const Case& c, const Tensors& t, const Backend& backend,
             int threads = 2, int layer = 0) {
  auto plan = Plan::make(config, shape_of(c), backend, threads);
  INFO((plan ? "" : plan.error().what));
  REQUIRE(plan);
  AlignedBuffer<char> workspace(plan->workspace_bytes());
  Run run(c);
  Unspent unspent;
  const Status status = plan->run(layer, t.q.view(), t.k.view(), t.v.view(), run.o.view(),
                                  run.lse.view(), workspace.data(), run.stats, unspent);
  INFO(status.what);
  REQUIRE(status);
  return run;
}

// A head's entry together with what the formulas say it selects.
struct HeadCase {
  HeadEntry entry;
  naive::Dense dense;
  naive::Selection selection;
};

constexpr int kKinds = 10;

// Kinds 0..9: dense, a_shape, and every estimate in its density and counts forms.
HeadCase make_head(const AttentionHead& head, int kind, int64_t last, std::mt19937_64& engine) {
  const auto pick = [&](std::initializer_list<int64_t> values) {
    return *(values.begin() + static_cast<int64_t>(engine() % values.size()));
  };
  HeadCase result;
  result.dense = naive::dense(head);
  HeadEntry& entry = result.entry;
  EstimatorParams params;
  params.last = last;
  const Pattern patterns[kKinds] = {Pattern::dense,          Pattern::a_shape,
                                    Pattern::vertical_slash, Pattern::block_sparse,
                                    Pattern::block_sparse,   Pattern::block_sparse,
                                    Pattern::stripe,         Pattern::stripe_vertical_slash,
                                    Pattern::vertical_slash, Pattern::block_sparse};
  params.pattern = entry.pattern = patterns[kind];
  double lambda = 0;
  if (kind == 4 || kind == 5) {
    params.estimate = entry.estimate = BlockEstimate::antidiagonal;
    params.stride = entry.stride = kind == 4 ? 8 : 16;
  }
  if (kind == 8) {
    params.counts = true;
    entry.vertical[0] = params.vertical = static_cast<double>(pick({0, 1, 10, 30, 31, 60, 5000}));
    entry.slash[0] = params.slash = static_cast<double>(pick({1, 50, 100, 101, 160, 5000}));
    lambda = 1;
  } else if (kind == 9) {
    params.counts = true;
    entry.blocks[0] = static_cast<double>(pick({1, 2, 3, 100}));
    lambda = 1 / entry.blocks[0];
  } else if (kind == 1) {
    params.sink = entry.sink = pick({0, 1, 16, 5000});
    entry.local[0] = static_cast<double>(pick({1, 2, 64, 65, 130, 5000}));
    lambda = 1 / entry.local[0];
  } else if (kind > 1) {
    params.sink = entry.sink = pick({0, 0, 4, 16});
    params.local = pick({0, 0, 1, 32, 128});
    entry.local[0] = static_cast<double>(params.local);
    const auto estimates = naive::estimates(head, result.dense, params);
    const double fractions[] = {0, 0.02, 0.2, 0.6, 1};
    // The key that fills a last tile may be too close to the next one: then another threshold.
    size_t fraction = engine() % 5;
    do {
      lambda = naive::clear_threshold(result.dense, estimates, fractions[fraction++ % 5]);
    } while (!naive::select(result.dense, estimates, lambda, true).certain() && fraction < 10);
    entry.density[0] = lambda;
  }
  const auto estimates = naive::estimates(head, result.dense, params);
  const auto selected = naive::select(result.dense, estimates, lambda, !params.counts);
  INFO("kind " << kind << " lambda " << lambda);
  REQUIRE(selected.certain());
  result.selection = selected.low;
  return result;
}

// f32 scores of standard normal q and k, scaled to sigma 1: 4 ulp of |s| < 8 in the exponent.
constexpr double kLseTolerance = 2e-5;
constexpr double kOutputTolerance = 5e-5;

void check_head(const Run& run, int h, const HeadCase& want, const AttentionHead& head,
                const CallShape& call) {
  const auto expected = naive::attend(head, want.dense, want.selection);
  std::vector<float> o, lse;
  for (int64_t i = 0; i < head.n_q; ++i) {
    for (int x = 0; x < head.head_dim; ++x) o.push_back(static_cast<float>(expected.o(i, x)));
    lse.push_back(static_cast<float>(expected.lse[static_cast<size_t>(i)]));
  }
  const auto got_o = run.o.view()[h];
  const auto got_lse = run.lse.view()[h];
  CHECK(test::worst_difference({got_o.data, o.size()}, o, {kOutputTolerance, 0}) == "");
  CHECK(test::worst_difference({got_lse.data, lse.size()}, lse, {kLseTolerance, 0}) == "");
  const HeadStats& stats = run.stats[static_cast<size_t>(h)];
  CHECK(stats.tiles == naive::tiles(want.selection));
  CHECK(stats.share == cost_share(call, stats.tiles, stats.estimate_flops));
  CHECK(!stats.capped);
  const auto recall = naive::recall(want.dense, want.selection);
  for (int64_t i = 0; i < head.n_q; ++i) {
    const auto at = static_cast<size_t>(i);
    const double measured = std::exp(static_cast<double>(got_lse[i]) - want.dense.lse[at]);
    if (std::abs(measured - recall[at]) > 2 * kLseTolerance)
      FAIL_CHECK("row " << i << ": recall " << measured << ", naive " << recall[at]);
  }
}

TEST_CASE("a plan's output is attention over the naive selection", "[cpu]") {
  for (const Case& c : kCases) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      std::mt19937_64 engine(seed * 1000 + static_cast<uint64_t>(c.n_kv));
      const Tensors tensors(c, engine());
      const int64_t last = std::array<int64_t, 4>{0, 1, 64, 65}[engine() % 4];
      std::vector<HeadCase> heads;
      std::vector<HeadEntry> entries;
      std::vector<int> kinds;
      for (int h = 0; h < c.heads; ++h) {
        kinds.push_back(static_cast<int>(engine() % kKinds));
        heads.push_back(make_head(head_of(c, tensors, h), kinds.back(), last, engine));
        entries.push_back(heads.back().entry);
      }
      const HeadConfig config = config_of(c, {entries}, last);
      for_each_backend([&](const Backend& backend) {
        const Run run = run_plan(config, c, tensors, backend);
        for (int h = 0; h < c.heads; ++h) {
          const auto at = static_cast<size_t>(h);
          INFO("n_q " << c.n_q << " n_kv " << c.n_kv << " head " << h << " kind " << kinds[at]
                      << " last " << last << " seed " << seed);
          check_head(run, h, heads[at], head_of(c, tensors, h), {c.n_q, c.n_kv, c.head_dim});
        }
      });
    }
  }
}

TEST_CASE("every pattern of one prompt selects what the formulas say", "[cpu]") {
  const Case c{333, 397, kKinds, 5, 32};
  const Tensors tensors(c, 42);
  std::mt19937_64 engine(42);
  std::vector<HeadCase> heads;
  std::vector<HeadEntry> entries;
  for (int h = 0; h < kKinds; ++h) {
    heads.push_back(make_head(head_of(c, tensors, h), h, 64, engine));
    entries.push_back(heads.back().entry);
  }
  const HeadConfig config = config_of(c, {entries}, 64);
  for_each_backend([&](const Backend& backend) {
    const Run run = run_plan(config, c, tensors, backend);
    for (int h = 0; h < kKinds; ++h) {
      INFO("kind " << h);
      check_head(run, h, heads[static_cast<size_t>(h)], head_of(c, tensors, h),
                 {c.n_q, c.n_kv, c.head_dim});
    }
  });
}

// Entries of every pattern with the budget that keeps every key.
std::vector<HeadEntry> full_budget() {
  std::vector<HeadEntry> entries;
  HeadEntry entry;
  entry.pattern = Pattern::a_shape;
  entry.local[0] = 1e6;
  entries.push_back(entry);
  for (Pattern pattern : {Pattern::vertical_slash, Pattern::block_sparse, Pattern::stripe,
                          Pattern::stripe_vertical_slash}) {
    entry = {};
    entry.pattern = pattern;
    entry.density[0] = 1e-30;
    entries.push_back(entry);
  }
  entry = {};
  entry.pattern = Pattern::block_sparse;
  entry.estimate = BlockEstimate::antidiagonal;
  entry.density[0] = 1e-30;
  entries.push_back(entry);
  entry.stride = 8;
  entries.push_back(entry);
  entry = {};
  entry.pattern = Pattern::vertical_slash;
  entry.vertical[0] = entry.slash[0] = 1e6;
  entries.push_back(entry);
  entry = {};
  entry.pattern = Pattern::block_sparse;
  entry.blocks[0] = 1e6;
  entries.push_back(entry);
  entry = {};
  entry.pattern = Pattern::stripe;
  entry.share[0] = 1000;  // spends it all
  entries.push_back(entry);
  return entries;
}

TEST_CASE("a full budget is dense attention to the bit", "[cpu]") {
  for (const auto& tokens : {std::pair<int64_t, int64_t>{1, 1}, {65, 65}, {130, 333}, {257, 257}}) {
    const int64_t n_q = tokens.first;
    const int64_t n_kv = tokens.second;
    const auto entries = full_budget();
    const Case c{n_q, n_kv, static_cast<int>(entries.size()), 1, 32};
    const Tensors tensors(c, 9);
    for_each_backend([&](const Backend& backend) {
      const Run dense =
          run_plan(config_of(c, {std::vector<HeadEntry>(entries.size())}, 64), c, tensors, backend);
      const Run full = run_plan(config_of(c, {entries}, 0), c, tensors, backend);
      for (size_t h = 0; h < entries.size(); ++h) {
        INFO("n_q " << n_q << " n_kv " << n_kv << " entry " << h);
        const auto at = static_cast<int64_t>(h);
        const auto size = static_cast<size_t>(n_q) * 32;
        CHECK(std::memcmp(full.o.view()[at].data, dense.o.view()[at].data, size * 4) == 0);
        CHECK(std::memcmp(full.lse.view()[at].data, dense.lse.view()[at].data,
                          static_cast<size_t>(n_q) * 4) == 0);
        CHECK(full.stats[h].tiles == dense_tiles({n_q, n_kv, 32}));
        CHECK(dense.stats[h].share == 1);
        CHECK(dense.stats[h].estimate_flops == 0);
      }
    });
  }
}

TEST_CASE("where nothing passes the threshold the forced keys remain, their tiles filled",
          "[cpu]") {
  for (const auto& tokens : {std::pair<int64_t, int64_t>{333, 333}, {100, 500}, {1, 300}}) {
    const int64_t n_q = tokens.first;
    const int64_t n_kv = tokens.second;
    const Case c{n_q, n_kv, 4, 2, 16};
    const Tensors tensors(c, 11);
    std::vector<HeadEntry> entries(4);
    const Pattern patterns[] = {Pattern::vertical_slash, Pattern::block_sparse, Pattern::stripe,
                                Pattern::stripe_vertical_slash};
    for (size_t h = 0; h < 4; ++h) {
      entries[h].pattern = patterns[h];
      entries[h].density[0] = 1e9;
      entries[h].sink = static_cast<int64_t>(h) * 5;
      entries[h].local[0] = static_cast<double>(h) * 20;
    }
    for_each_backend([&](const Backend& backend) {
      const Run run = run_plan(config_of(c, {entries}, 0), c, tensors, backend);
      for (int h = 0; h < 4; ++h) {
        const AttentionHead head = head_of(c, tensors, h);
        HeadCase want{entries[static_cast<size_t>(h)], naive::dense(head), {}};
        EstimatorParams params;
        params.pattern = patterns[h];
        params.sink = h * 5;
        params.local = h * 20;
        const auto selected =
            naive::select(want.dense, naive::estimates(head, want.dense, params), 1e9, true);
        REQUIRE(selected.certain());
        want.selection = selected.low;
        for (int64_t m = 0; m < want.dense.blocks(); ++m) {
          const auto& row = want.selection[static_cast<size_t>(m)];
          const int64_t first = m * 64 + n_kv - n_q;
          const int64_t keys = want.dense.keys_end(m);
          int64_t forced = 0;
          for (int64_t j = 0; j < keys; ++j) {
            if (j >= h * 5 && j < first - h * 20) continue;
            ++forced;
            REQUIRE(row[static_cast<size_t>(j)] == 1);
          }
          CHECK(std::count(row.begin(), row.end(), char{1}) ==
                std::min(keys, naive::ceil_div(forced, 64) * 64));
        }
        INFO("n_q " << n_q << " head " << h);
        check_head(run, h, want, head, {n_q, n_kv, 16});
      }
    });
  }
}

// All patterns in turn, with moderate budgets, for tests that compare runs with each other.
std::vector<HeadEntry> mixed_entries(int heads) {
  auto entries = full_budget();
  for (HeadEntry& entry : entries) {
    entry.sink = 8;
    if (!entry.density.empty()) entry.density[0] = 0.2;
    if (!entry.vertical.empty()) entry.vertical[0] = entry.slash[0] = 120;
    if (!entry.blocks.empty()) entry.blocks[0] = 2;
    if (entry.pattern == Pattern::a_shape) entry.local[0] = 70;
    if (!entry.share.empty()) entry.share[0] = 0.5;
  }
  std::vector<HeadEntry> mixed;
  for (int h = 0; h < heads; ++h) mixed.push_back(entries[static_cast<size_t>(h) % entries.size()]);
  return mixed;
}

TEST_CASE("strided views give the bits of contiguous ones", "[cpu]") {
  const Case c{200, 333, 10, 2, 24};
  const Tensors t(c, 21);
  const HeadConfig config = config_of(c, {mixed_entries(c.heads)}, 64);
  // [tokens, heads, dim] with gaps between heads and tokens.
  const int64_t gap = 5;
  const auto transposed = [&](const Tensor<float, 3>& from, int64_t heads, int64_t tokens) {
    const int64_t head_stride = c.head_dim + gap;
    const int64_t token_stride = heads * head_stride + 3;
    std::vector<float> memory(static_cast<size_t>(tokens * token_stride), -7.0f);
    const TensorView<float, 3> view(memory.data(), {heads, tokens, c.head_dim},
                                    {head_stride, token_stride, 1});
    if (from.data() != nullptr)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < tokens; ++i)
          for (int64_t x = 0; x < c.head_dim; ++x) view[h][i][x] = from.view()[h][i][x];
    return std::pair(std::move(memory), view);
  };
  for_each_backend([&](const Backend& backend) {
    const Run want = run_plan(config, c, t, backend);
    const auto q = transposed(t.q, c.heads, c.n_q);
    const auto k = transposed(t.k, c.kv_heads, c.n_kv);
    const auto v = transposed(t.v, c.kv_heads, c.n_kv);
    const auto o = transposed({}, c.heads, c.n_q);
    Tensor<float, 2> lse({c.heads, c.n_q + 9});
    const TensorView<float, 2> lse_view(lse.data(), {c.heads, c.n_q}, {c.n_q + 9, 1});
    auto plan = Plan::make(config, shape_of(c), backend, 2);
    REQUIRE(plan);
    AlignedBuffer<char> workspace(plan->workspace_bytes());
    std::vector<HeadStats> stats(static_cast<size_t>(c.heads));
    Unspent unspent;
    REQUIRE(plan->run(0, q.second, k.second, v.second, o.second, lse_view, workspace.data(), stats,
                      unspent));
    for (int64_t h = 0; h < c.heads; ++h) {
      INFO("head " << h);
      int64_t different = 0;
      for (int64_t i = 0; i < c.n_q; ++i) {
        different += lse_view[h][i] == want.lse.view()[h][i] ? 0 : 1;
        for (int64_t x = 0; x < c.head_dim; ++x)
          different += o.second[h][i][x] == want.o.view()[h][i][x] ? 0 : 1;
      }
      CHECK(different == 0);
      CHECK(stats[static_cast<size_t>(h)].tiles == want.stats[static_cast<size_t>(h)].tiles);
    }
    // Nothing is written between the rows.
    for (int64_t i = 0; i < c.n_q; ++i)
      for (int64_t h = 0; h < c.heads; ++h)
        for (int64_t x = c.head_dim; x < c.head_dim + gap; ++x)
          REQUIRE(o.second[h][i].data[x] == -7.0f);
  });
}

TEST_CASE("one thread and two give the same bits", "[cpu]") {
  const Case c{333, 397, 20, 4, 32};
  const Tensors t(c, 31);
  const HeadConfig config = config_of(c, {mixed_entries(c.heads)}, 64);
  for_each_backend([&](const Backend& backend) {
    const Run one = run_plan(config, c, t, backend, 1);
    for (int threads : {2, 3}) {
      const Run many = run_plan(config, c, t, backend, threads);
      INFO("threads " << threads);
      CHECK(std::memcmp(one.o.data(), many.o.data(),
                        static_cast<size_t>(one.o.view().size()) * 4) == 0);
      CHECK(std::memcmp(one.lse.data(), many.lse.data(),
                        static_cast<size_t>(one.lse.view().size()) * 4) == 0);
      for (size_t h = 0; h < one.stats.size(); ++h) {
        CHECK(one.stats[h].tiles == many.stats[h].tiles);
        CHECK(one.stats[h].share == many.stats[h].share);
        CHECK(one.stats[h].capped == many.stats[h].capped);
      }
    }
  });
}

TEST_CASE("a share alone is spent and no more", "[cpu]") {
  const Case c{1024, 1024, 5, 1, 64};
  const Tensors t(c, 51);
  const CallShape call{c.n_q, c.n_kv, c.head_dim};
  const Pattern patterns[] = {Pattern::vertical_slash, Pattern::block_sparse, Pattern::block_sparse,
                              Pattern::stripe, Pattern::stripe_vertical_slash};
  for (const double share : {0.12, 0.2, 0.35, 0.6, 0.9}) {
    std::vector<HeadEntry> entries(5);
    for (size_t h = 0; h < 5; ++h) {
      entries[h].pattern = patterns[h];
      if (h == 2) entries[h].estimate = BlockEstimate::antidiagonal;
      entries[h].share[0] = share;
      entries[h].sink = 4;
    }
    for_each_backend([&](const Backend& backend) {
      if (&backend == &kernels::reference_backend()) return;
      const Run run = run_plan(config_of(c, {entries}, 0), c, t, backend);
      for (size_t h = 0; h < 5; ++h) {
        const HeadStats& stats = run.stats[h];
        INFO("share " << share << " pattern " << h);
        EstimatorParams params;
        params.pattern = patterns[h];
        params.estimate = entries[h].estimate;
        const double estimating = make_estimator(params)->flops(call);
        // Sinks and the block's own keys are attended at any share.
        int64_t forced = 0;
        for (int64_t m = 0; m < 16; ++m) forced += m == 0 ? 1 : 2;
        CHECK(!stats.capped);
        CHECK(stats.tiles >= forced);
        CHECK(stats.share <= std::max(share, cost_share(call, forced, 2 * estimating)) + 2e-6);
        // What is left unspent is at most one bin of the histogram: an eighth of an octave, in
        // which a smooth distribution of estimates has far less than half the keys. Blocks come
        // in 64 keys at a time, still several per bin here.
        CHECK(cost_share(call, stats.tiles, 2 * estimating) >= 0.6 * share);
      }
    });
  }
}

TEST_CASE("the heads of a layer pool their share caps", "[cpu]") {
  const Case c{1024, 1024, 4, 1, 64};
  const Tensors t(c, 57);
  std::vector<HeadEntry> entries(4);
  for (size_t h = 0; h < 4; ++h) {
    entries[h].pattern = h % 2 == 0 ? Pattern::stripe : Pattern::stripe_vertical_slash;
    entries[h].density[0] = 0.08;
    entries[h].sink = 4;
  }
  for_each_backend([&](const Backend& backend) {
    if (&backend == &kernels::reference_backend()) return;
    const Run open = run_plan(config_of(c, {entries}, 0), c, t, backend);
    const auto tiles_of = [&](const Run& run) {
      int64_t tiles = 0;
      for (const HeadStats& stats : run.stats) tiles += stats.tiles;
      return tiles;
    };
    // One head has more than it needs, the others less: together just enough, so nothing binds.
    auto pooled = entries;
    for (size_t h = 0; h < 4; ++h)
      pooled[h].share[0] = open.stats[h].share + (h == 0 ? 0.15 : -0.04);
    const Run same = run_plan(config_of(c, {pooled}, 0), c, t, backend);
    CHECK(tiles_of(same) == tiles_of(open));
    for (const HeadStats& stats : same.stats) CHECK(!stats.capped);

    // A tenth less for everyone binds: thresholds rise and all fits, the second estimates too. No
    // head executes more by them, and a head that would keeps its threshold.
    for (size_t h = 0; h < 4; ++h) pooled[h].share[0] = 0.9 * open.stats[h].share;
    const Run capped = run_plan(config_of(c, {pooled}, 0), c, t, backend);
    double affordable = 0;
    double executed = 0;
    int heads_capped = 0;
    for (size_t h = 0; h < 4; ++h) {
      if (capped.stats[h].capped) {
        ++heads_capped;
        CHECK(capped.stats[h].estimate_flops > open.stats[h].estimate_flops);
        CHECK(capped.stats[h].share < open.stats[h].share);
      } else {
        CHECK(capped.stats[h].tiles == open.stats[h].tiles);
        CHECK(capped.stats[h].share == open.stats[h].share);
      }
      affordable += pooled[h].share[0];
      executed += capped.stats[h].share;
    }
    CHECK(heads_capped > 0);
    CHECK(executed <= affordable + 1e-5);
    CHECK(tiles_of(capped) > tiles_of(open) / 2);

    // A cap out of reach: thresholds rise fourfold and no further.
    for (size_t h = 0; h < 4; ++h) pooled[h].share[0] = 1e-3;
    auto fourfold = entries;
    for (size_t h = 0; h < 4; ++h) fourfold[h].density[0] = 4.5 * 0.08;
    CHECK(tiles_of(run_plan(config_of(c, {pooled}, 0), c, t, backend)) >=
          tiles_of(run_plan(config_of(c, {fourfold}, 0), c, t, backend)));
  });
}

TEST_CASE("what a layer leaves of its share caps goes to the next", "[cpu]") {
  const Case c{640, 640, 2, 1, 32};
  const Tensors t(c, 59);
  std::vector<HeadEntry> open(2);
  for (HeadEntry& entry : open) {
    entry.pattern = Pattern::stripe;
    entry.density[0] = 0.08;
  }
  const Backend& backend = **kernels::choose_backend();
  const Run want = run_plan(config_of(c, {open}, 0), c, t, backend);
  const auto layers_with = [&](double first, double second) {
    auto layers = std::vector(2, open);
    for (size_t h = 0; h < 2; ++h) {
      layers[0][h].share[0] = want.stats[h].share + first;
      layers[1][h].share[0] = want.stats[h].share + second;
    }
    return config_of(c, layers, 0);
  };
  const auto run = [&](const HeadConfig& config) {
    const auto plan = Plan::make(config, shape_of(c), backend, 2);
    REQUIRE(plan);
    AlignedBuffer<char> workspace(plan->workspace_bytes());
    Unspent unspent;
    std::vector<Run> runs;
    for (int layer = 0; layer < 2; ++layer) {
      Run& one = runs.emplace_back(c);
      REQUIRE(plan->run(layer, t.q.view(), t.k.view(), t.v.view(), one.o.view(), one.lse.view(),
                        workspace.data(), one.stats, unspent));
    }
    return runs;
  };
  // The second layer alone would be capped; what the first leaves is just enough.
  const auto carried = run(layers_with(0.05, -0.05));
  for (size_t h = 0; h < 2; ++h) {
    CHECK(!carried[1].stats[h].capped);
    CHECK(carried[1].stats[h].tiles == want.stats[h].tiles);
  }
  const auto alone = run(layers_with(0, -0.05));
  CHECK(alone[1].stats[0].capped);
  // A first layer out of its means, with thresholds at most fourfold, takes from the second.
  const auto owing = run(layers_with(1e-4 - want.stats[0].share, 0));
  CHECK(owing[1].stats[0].capped);
}

TEST_CASE("a cap that does not bind changes nothing and is not reported", "[cpu]") {
  const Case c{300, 300, 10, 1, 32};
  const Tensors t(c, 61);
  auto entries = mixed_entries(c.heads);
  entries.pop_back();  // the head that spends its share
  entries.push_back(entries.front());
  const Backend& backend = **kernels::choose_backend();
  const Run want = run_plan(config_of(c, {entries}, 0), c, t, backend);
  for (size_t h = 0; h < entries.size(); ++h) entries[h].share[0] = want.stats[h].share;
  const Run capped = run_plan(config_of(c, {entries}, 0), c, t, backend);
  for (size_t h = 0; h < entries.size(); ++h) {
    INFO("head " << h);
    CHECK(!capped.stats[h].capped);
    CHECK(capped.stats[h].tiles == want.stats[h].tiles);
    CHECK(capped.stats[h].share == want.stats[h].share);
  }
  CHECK(std::memcmp(want.o.data(), capped.o.data(),
                    static_cast<size_t>(want.o.view().size()) * 4) == 0);
}

TEST_CASE("beyond the calibrated lengths the nearest share is spent, and the plan says so",
          "[cpu]") {
  const Case c{500, 500, 2, 1, 32};
  const Tensors t(c, 71);
  std::vector<HeadEntry> entries(2);
  for (HeadEntry& entry : entries) {
    entry.pattern = Pattern::stripe;
    entry.density = {{1024, 1e-9}, {2048, 1e-9}};
    entry.share = {{1024, 0.5}, {2048, 0.3}};
  }
  auto config = config_of(c, {entries}, 0);
  const Backend& backend = **kernels::choose_backend();
  const auto plan = Plan::make(config, shape_of(c), backend, 1);
  REQUIRE(plan);
  REQUIRE(plan->notes().size() == 1);
  CHECK(plan->notes()[0].find("500") != std::string::npos);
  const Run run = run_plan(config, c, t, backend);
  CHECK(run.stats[0].share <= 0.5 + 2e-6);
  CHECK(run.stats[0].share > 0.3);
  CHECK(!run.stats[0].capped);
  for (auto& entry : config.layers[0]) entry.density = entry.share = {{500, 0.5}};
  CHECK(Plan::make(config, shape_of(c), backend, 1)->notes().empty());
}

TEST_CASE("heads run dense where the prompt is too short for their estimate, to the bit", "[cpu]") {
  const std::vector<HeadEntry> entries = full_budget();
  const Case c{130, 333, static_cast<int>(entries.size()), 1, 32};
  const Tensors t(c, 72);
  auto config = config_of(c, {entries}, 64);
  for (HeadEntry& entry : config.layers[0])
    if (entry.pattern != Pattern::a_shape) entry.density = entry.share = {{1024, 0.01}};
  config.layers[0][0].local = {{0, 8}};
  const Backend& backend = **kernels::choose_backend();
  const Run dense =
      run_plan(config_of(c, {std::vector<HeadEntry>(entries.size())}, 64), c, t, backend);
  for (const int64_t below : {208, 333, 334, 417, 667}) {
    config.kernel.dense_below = below;
    int short_heads = 0;
    const Run run = run_plan(config, c, t, backend);
    for (size_t h = 0; h < entries.size(); ++h) {
      const Pattern pattern = entries[h].pattern;
      const bool antidiagonal = entries[h].estimate == BlockEstimate::antidiagonal;
      const bool is_short = pattern == Pattern::stripe_vertical_slash ? below > 333
                            : antidiagonal                            ? below > 208
                            : pattern == Pattern::vertical_slash      ? below > 416
                            : pattern == Pattern::a_shape             ? false
                                                                      : below > 666;
      INFO("dense_below " << below << " entry " << h);
      short_heads += is_short ? 1 : 0;
      const auto at = static_cast<int64_t>(h);
      const bool same =
          std::memcmp(run.o.view()[at].data, dense.o.view()[at].data, 130 * 32 * 4) == 0;
      CHECK(same == is_short);
      CHECK((run.stats[h].share == 1) == is_short);
      if (is_short) CHECK(run.stats[h].estimate_flops == 0);
    }
    const auto plan = Plan::make(config, shape_of(c), backend, 1);
    REQUIRE(plan);
    const std::string note = fmt::format(
        "333 tokens are few beside dense_below {}: {} sparse heads run dense", below, short_heads);
    const auto& notes = plan->notes();
    CHECK((std::find(notes.begin(), notes.end(), note) != notes.end()) == (short_heads > 0));
  }
}

TEST_CASE("chunks of a prompt give the rows of the whole", "[cpu]") {
  // These patterns know nothing of later tokens: chunk borders cannot be seen in the output, nor
  // that early chunks are short, once the length of the prompt is known.
  const Case whole{333, 333, 4, 1, 32};
  const Tensors t(whole, 81);
  std::vector<HeadEntry> entries(4);
  entries[1].pattern = Pattern::a_shape;
  entries[1].sink = 3;
  entries[1].local[0] = 50;
  entries[2].pattern = Pattern::stripe;
  entries[3].pattern = Pattern::block_sparse;
  for (size_t h : {2, 3}) {
    entries[h].density = {{64, 5}, {333, 0.4}};
    entries[h].share = {{64, 1}, {333, 1}};
  }
  const HeadConfig config = config_of(whole, {entries}, 70);
  for_each_backend([&](const Backend& backend) {
    const Run want = run_plan(config, whole, t, backend);
    for (const int64_t chunk : {64, 128, 192}) {
      for (int64_t begin = 0; begin < whole.n_q; begin += chunk) {
        const int64_t end = std::min(whole.n_q, begin + chunk);
        Case c = whole;
        c.n_q = end - begin;
        c.n_kv = end;
        PlanShape shape = shape_of(c);
        shape.prompt_tokens = whole.n_kv;
        auto plan = Plan::make(config, shape, backend, 2);
        REQUIRE(plan);
        CHECK(plan->notes().empty());
        AlignedBuffer<char> workspace(plan->workspace_bytes());
        Run run(c);
        TensorView<const float, 3> q = t.q.view(), k = t.k.view(), v = t.v.view();
        q.data += begin * q.stride[1];
        q.extent[1] = c.n_q;
        k.extent[1] = v.extent[1] = c.n_kv;
        Unspent unspent;
        REQUIRE(plan->run(0, q, k, v, run.o.view(), run.lse.view(), workspace.data(), run.stats,
                          unspent));
        for (int64_t h = 0; h < whole.heads; ++h) {
          INFO("chunk " << chunk << " begin " << begin << " head " << h);
          CHECK(std::memcmp(run.o.view()[h].data, want.o.view()[h][begin].data,
                            static_cast<size_t>(c.n_q * c.head_dim) * 4) == 0);
          CHECK(std::memcmp(run.lse.view()[h].data, want.lse.view()[h].data + begin,
                            static_cast<size_t>(c.n_q) * 4) == 0);
        }
      }
    }
    PlanShape shape = shape_of(whole);
    shape.prompt_tokens = 332;
    CHECK(Plan::make(config, shape, backend, 1).error().what ==
          "prompt_tokens: got 332, expected n_kv 333 at least");
  });
}

TEST_CASE("a layer runs its own entries", "[cpu]") {
  const Case c{200, 200, 2, 1, 16};
  const Tensors t(c, 91);
  std::vector<HeadEntry> dense(2), window(2);
  for (HeadEntry& entry : window) {
    entry.pattern = Pattern::a_shape;
    entry.local[0] = 1;
  }
  const auto& backend = **kernels::choose_backend();
  const HeadConfig config = config_of(c, {dense, window, {dense[0], window[0]}}, 0);
  const int64_t full = dense_tiles({200, 200, 16});
  CHECK(run_plan(config, c, t, backend, 1, 0).stats[0].tiles == full);
  CHECK(run_plan(config, c, t, backend, 1, 1).stats[0].tiles == 4);
  const Run mixed = run_plan(config, c, t, backend, 1, 2);
  CHECK(mixed.stats[0].tiles == full);
  CHECK(mixed.stats[1].tiles == 4);
}

TEST_CASE("more heads than one wave holds", "[cpu]") {
  const Case c{70, 70, 130, 13, 8};
  const Tensors t(c, 101);
  const HeadConfig config = config_of(c, {mixed_entries(c.heads)}, 0);
  const Run run = run_plan(config, c, t, **kernels::choose_backend());
  for (int h : {0, 63, 64, 65, 127, 128, 129}) {
    // The same head by itself.
    const Case single{70, 70, 1, 1, 8};
    Tensors own(single, 1);
    const AttentionHead head = head_of(c, t, h);
    std::copy_n(head.q, own.q.view().size(), own.q.data());
    std::copy_n(head.k, own.k.view().size(), own.k.data());
    std::copy_n(head.v, own.v.view().size(), own.v.data());
    const Run alone = run_plan(config_of(single, {{config.layers[0][static_cast<size_t>(h)]}}, 0),
                               single, own, **kernels::choose_backend());
    INFO("head " << h);
    CHECK(std::memcmp(alone.o.data(), run.o.view()[h].data, size_t{70} * 8 * 4) == 0);
    CHECK(alone.stats[0].share == run.stats[static_cast<size_t>(h)].share);
  }
}

TEST_CASE("lse and stats may be left out", "[cpu]") {
  const Case c{130, 130, 3, 1, 16};
  const Tensors t(c, 111);
  const HeadConfig config = config_of(c, {mixed_entries(c.heads)}, 64);
  const Backend& backend = **kernels::choose_backend();
  const Run want = run_plan(config, c, t, backend);
  const auto plan = Plan::make(config, shape_of(c), backend, 1);
  REQUIRE(plan);
  AlignedBuffer<char> workspace(plan->workspace_bytes());
  Run run(c);
  Unspent unspent;
  REQUIRE(plan->run(0, t.q.view(), t.k.view(), t.v.view(), run.o.view(), {}, workspace.data(), {},
                    unspent));
  CHECK(std::memcmp(want.o.data(), run.o.data(), static_cast<size_t>(want.o.view().size()) * 4) ==
        0);
}

TEST_CASE("a plan is refused for what it cannot run, by name", "[cpu]") {
  const Case c{100, 100, 4, 2, 16};
  const Backend& backend = **kernels::choose_backend();
  const HeadConfig config = config_of(c, {mixed_entries(4)}, 64);
  const auto refused = [&](const HeadConfig& with, const PlanShape& shape, Code code,
                           std::initializer_list<const char*> words) {
    const auto plan = Plan::make(with, shape, backend, 1);
    REQUIRE(!plan);
    CHECK(plan.error().code == code);
    for (const char* word : words) {
      INFO(plan.error().what << " should contain " << word);
      CHECK(plan.error().what.find(word) != std::string::npos);
    }
  };
  REQUIRE(Plan::make(config, shape_of(c), backend, 1));
  PlanShape shape = shape_of(c);
  shape.heads = 8;
  refused(config, shape, Code::invalid_argument, {"model test", "4 heads", "8"});
  shape = shape_of(c);
  shape.kv_heads = 4;
  refused(config, shape, Code::invalid_argument, {"2 kv_heads", "4"});
  shape = shape_of(c);
  shape.head_dim = 32;
  refused(config, shape, Code::invalid_argument, {"head_dim 16", "32"});
  shape = shape_of(c);
  shape.n_q = 0;
  refused(config, shape, Code::invalid_argument, {"n_q 0"});
  shape.n_q = 101;
  refused(config, shape, Code::invalid_argument, {"n_q 101", "n_kv 100"});
  shape = shape_of(c);
  shape.softcap = -1;
  refused(config, shape, Code::invalid_argument, {"softcap", "-1"});
  HeadConfig odd = config;
  odd.model.head_dim = 12;
  shape = shape_of(c);
  shape.head_dim = 12;
  refused(odd, shape, Code::unsupported, {"head_dim", "12"});
  odd = config;
  odd.layers.pop_back();
  refused(odd, shape_of(c), Code::invalid_argument, {"layers", "0", "1"});
  odd = config;
  odd.layers[0].pop_back();
  refused(odd, shape_of(c), Code::invalid_argument, {"heads", "3", "4"});
  odd = config;
  odd.layers[0][2] = {};
  odd.layers[0][2].pattern = Pattern::stripe;
  refused(odd, shape_of(c), Code::invalid_argument, {"stripe", "density", "share"});
  odd = config;
  odd.model.kv_heads = 3;
  shape = shape_of(c);
  shape.kv_heads = 3;
  refused(odd, shape, Code::invalid_argument, {"kv_heads", "3", "4"});
}

TEST_CASE("a run refuses wrong views and leaves the output alone", "[cpu]") {
  const Case c{100, 130, 4, 2, 16};
  const Tensors t(c, 121);
  const auto plan =
      Plan::make(config_of(c, {mixed_entries(4)}, 64), shape_of(c), **kernels::choose_backend(), 1);
  REQUIRE(plan);
  AlignedBuffer<char> workspace(plan->workspace_bytes());
  struct Views {
    TensorView<const float, 3> q, k, v;
    TensorView<float, 3> o;
    TensorView<float, 2> lse;
    int layer = 0;
    void* workspace = nullptr;
    size_t stats = 4;
  };
  const auto refused = [&](const char* word, const std::function<void(Views&)>& change) {
    Run run(c);
    Views views{t.q.view(),     t.k.view(), t.v.view(),       run.o.view(),
                run.lse.view(), 0,          workspace.data(), 4};
    change(views);
    std::vector<HeadStats> stats(views.stats);
    Unspent unspent;
    const Status status = plan->run(views.layer, views.q, views.k, views.v, views.o, views.lse,
                                    views.workspace, stats, unspent);
    INFO(word << ": " << status.what);
    CHECK(status.code == Code::invalid_argument);
    CHECK(status.what.find(word) != std::string::npos);
    for (float value : run.o.span()) REQUIRE(value == 0);
  };
  refused("layer", [](Views& v) { v.layer = 1; });
  refused("layer", [](Views& v) { v.layer = -1; });
  refused("q:", [](Views& v) { v.q.data = nullptr; });
  refused("q:", [](Views& v) { v.q.extent[1] = 99; });
  refused("q:", [](Views& v) { v.q.extent[0] = 5; });
  refused("k:", [](Views& v) { v.k.extent[0] = 4; });
  refused("k:", [](Views& v) { v.k.extent[2] = 8; });
  refused("v:", [](Views& v) { v.v.extent[1] = 100; });
  refused("v:", [](Views& v) { v.v.stride[2] = 2; });
  refused("o:", [](Views& v) { v.o.extent[1] = 130; });
  refused("o:", [](Views& v) { v.o.data = nullptr; });
  refused("stats", [](Views& v) { v.stats = 3; });
  refused("lse", [](Views& v) { v.lse.extent[0] = 3; });
  refused("lse", [](Views& v) { v.lse.extent[1] = 99; });
  refused("lse", [](Views& v) { v.lse.stride[1] = 2; });
  refused("workspace", [](Views& v) { v.workspace = nullptr; });
}

#if MI_COUNTS_ALLOCATIONS
TEST_CASE("a run allocates nothing", "[cpu]") {
  {  // The counter counts.
    allocations = 0;
    counting = true;
    auto* volatile by_new = new int(1);
    void* volatile by_aligned = std::aligned_alloc(64, 64);
    counting = false;
    delete by_new;
    std::free(by_aligned);  // NOLINT
    REQUIRE(allocations >= 2);
  }
  const Case c{333, 397, 10, 2, 32};
  const Tensors t(c, 131);
  auto entries = mixed_entries(c.heads);
  entries[3].share[0] = 0.1;  // capped, so that the second round runs as well
  const HeadConfig config = config_of(c, {entries}, 64);
  for_each_backend([&](const Backend& backend) {
    if (&backend == &kernels::reference_backend()) return;  // an oracle, written with Eigen
    for (int threads : {1, 2}) {
      const auto plan = Plan::make(config, shape_of(c), backend, threads);
      REQUIRE(plan);
      AlignedBuffer<char> workspace(plan->workspace_bytes());
      Run run(c);
      const auto once = [&] {
        Unspent unspent;
        return plan->run(0, t.q.view(), t.k.view(), t.v.view(), run.o.view(), run.lse.view(),
                         workspace.data(), run.stats, unspent);
      };
      REQUIRE(once());  // OpenMP starts its threads
      allocations = 0;
      counting = true;
      const bool ok = static_cast<bool>(once());
      counting = false;
      CHECK(ok);
      INFO("threads " << threads);
      CHECK(allocations == 0);
    }
  });
}
#endif

}  // namespace
}  // namespace mi::runtime
