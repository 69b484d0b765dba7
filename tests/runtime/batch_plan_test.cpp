// A batch gives, to the bit, what its sequences give alone.
#include "libruntime/batch_plan.h"

#include <catch2/catch.hpp>

#include <cstring>

#include "tests/support.h"

namespace mi::runtime {
namespace {

constexpr int kHeads = 6;
constexpr int kKvHeads = 2;
constexpr int kDim = 64;

// A head of every pattern.
HeadConfig every_pattern() {
  HeadConfig config;
  config.model.name = "test";
  config.model.layers = 1;
  config.model.heads = kHeads;
  config.model.kv_heads = kKvHeads;
  config.model.head_dim = kDim;
  config.kernel.last = 0;
  auto& layer = config.layers.emplace_back();
  for (const Pattern pattern :
       {Pattern::dense, Pattern::a_shape, Pattern::vertical_slash, Pattern::block_sparse,
        Pattern::stripe, Pattern::stripe_vertical_slash}) {
    HeadEntry& entry = layer.emplace_back();
    entry.pattern = pattern;
    if (pattern == Pattern::a_shape) {
      entry.sink = 16;
      entry.local[0] = 70;
    } else if (pattern != Pattern::dense) {
      entry.density[0] = 0.4;
    }
  }
  return config;
}

template <class T>
Tensor<T, 3> random_tensor(int64_t heads, int64_t tokens, uint64_t seed) {
  Tensor<T, 3> tensor({heads, tokens, kDim});
  const auto values = test::random_normal(tensor.span().size(), seed);
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, float>) {
      tensor.span()[i] = values[i];
    } else {
      tensor.span()[i] = narrowed<T>(values[i]);
    }
  }
  return tensor;
}

template <class T>
Tensor<T, 3> part_of(const Tensor<T, 3>& all, int64_t first, int64_t count) {
  Tensor<T, 3> part({all.extent(0), count, kDim});
  for (int64_t h = 0; h < all.extent(0); ++h)
    std::memcpy(part.view()[h].data, all.view()[h][first].data,
                static_cast<size_t>(count * kDim) * sizeof(T));
  return part;
}

PlanShape shape_of(Element element) {
  return {.heads = kHeads, .kv_heads = kKvHeads, .head_dim = kDim, .element = element};
}

template <class T>
void check_batch(const kernels::Backend& backend, Element element) {
  const HeadConfig config = every_pattern();
  const std::vector<Sequence> sequences = {{1, 1},   {63, 63},   {64, 640}, {65, 65},
                                           {1, 300}, {200, 513}, {63, 63}};
  Sequence total;
  for (const Sequence& s : sequences) total = {total.n_q + s.n_q, total.n_kv + s.n_kv};
  const auto q = random_tensor<T>(kHeads, total.n_q, 1);
  const auto k = random_tensor<T>(kKvHeads, total.n_kv, 2);
  const auto v = random_tensor<T>(kKvHeads, total.n_kv, 3);
  Tensor<T, 3> o({kHeads, total.n_q, kDim});
  Tensor<float, 2> lse({kHeads, total.n_q});
  const auto batch = BatchPlan::make(config, shape_of(element), sequences, backend, 2);
  REQUIRE(batch);
  AlignedBuffer<std::byte> workspace(batch->workspace_bytes());
  std::vector<HeadStats> stats(sequences.size() * kHeads);
  std::vector<Unspent> unspent(sequences.size());
  REQUIRE(batch->run(0, q.view(), k.view(), v.view(), o.view(), lse.view(), workspace.data(), stats,
                     unspent));
  Sequence first;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto [n_q, n_kv] = sequences[i];
    PlanShape shape = shape_of(element);
    shape.n_q = n_q;
    shape.n_kv = n_kv;
    const auto plan = Plan::make(config, shape, backend, 2);
    REQUIRE(plan);
    AlignedBuffer<std::byte> own(plan->workspace_bytes());
    CHECK(plan->workspace_bytes() <= batch->workspace_bytes());
    const auto own_q = part_of(q, first.n_q, n_q);
    const auto own_k = part_of(k, first.n_kv, n_kv);
    const auto own_v = part_of(v, first.n_kv, n_kv);
    Tensor<T, 3> own_o({kHeads, n_q, kDim});
    Tensor<float, 2> own_lse({kHeads, n_q});
    std::vector<HeadStats> own_stats(kHeads);
    Unspent left;
    REQUIRE(plan->run(0, own_q.view(), own_k.view(), own_v.view(), own_o.view(), own_lse.view(),
                      own.data(), own_stats, left));
    INFO("sequence " << i << " on " << backend.name());
    const auto got = part_of(o, first.n_q, n_q);
    CHECK(std::memcmp(got.data(), own_o.data(), own_o.span().size() * sizeof(T)) == 0);
    for (int64_t h = 0; h < kHeads; ++h) {
      CHECK(std::memcmp(lse.view()[h].data + first.n_q, own_lse.view()[h].data,
                        static_cast<size_t>(n_q) * sizeof(float)) == 0);
      CHECK(stats[i * kHeads + static_cast<size_t>(h)].tiles ==
            own_stats[static_cast<size_t>(h)].tiles);
    }
    CHECK(unspent[i].tiles == left.tiles);
    first = {first.n_q + n_q, first.n_kv + n_kv};
  }
}

TEST_CASE("a batch of unequal lengths gives what each sequence gives alone", "[cpu]") {
  test::for_each_backend([](const kernels::Backend& backend) {
    check_batch<float>(backend, Element::f32);
    check_batch<bf16>(backend, Element::bf16);
    check_batch<f16>(backend, Element::f16);
  });
}

TEST_CASE("a batch is refused for what it cannot run, by sequence and name", "[cpu]") {
  const kernels::Backend& backend = **kernels::choose_backend();
  const HeadConfig config = every_pattern();
  const auto error_of = [&](const std::vector<Sequence>& sequences) {
    const auto batch = BatchPlan::make(config, shape_of(Element::f32), sequences, backend, 1);
    return batch ? std::string() : batch.error().what;
  };
  CHECK(error_of({}) == "batch: got no sequence, expected at least one");
  CHECK_THAT(error_of({{64, 64}, {65, 64}}), Catch::StartsWith("sequence 1: "));

  const std::vector<Sequence> sequences = {{64, 64}, {1, 65}};
  const auto batch = BatchPlan::make(config, shape_of(Element::f32), sequences, backend, 1);
  REQUIRE(batch);
  AlignedBuffer<std::byte> workspace(batch->workspace_bytes());
  const auto run = [&](int64_t n_q, int64_t n_kv, size_t stats_count, size_t unspent_count) {
    Tensor<float, 3> q({kHeads, n_q, kDim}), k({kKvHeads, n_kv, kDim});
    const Tensor<float, 3>& keys = k;
    const Tensor<float, 3>& queries = q;
    std::vector<HeadStats> stats(stats_count);
    std::vector<Unspent> unspent(unspent_count);
    Tensor<float, 3> o({kHeads, n_q, kDim});
    const Status done = batch->run(0, queries.view(), keys.view(), keys.view(), o.view(), {},
                                   workspace.data(), stats, unspent);
    return done ? std::string() : done.what;
  };
  CHECK(run(65, 129, 0, 2).empty());
  CHECK(run(64, 129, 0, 2) == "q: got 64 tokens, the batch has 65");
  CHECK(run(65, 128, 0, 2) == "k: got 128 tokens, the batch has 129");
  CHECK(run(65, 129, 6, 2) == "stats: got 6, expected 2 sequences x 6 heads");
  CHECK(run(65, 129, 0, 1) == "unspent: got 1, expected 2 sequences");
}

}  // namespace
}  // namespace mi::runtime
