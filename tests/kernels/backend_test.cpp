// Every backend against the double-precision reference on hostile shapes.
#include "kernels/backend.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>

#include "kernels/reference.h"
#include "kernels/tensor_view.h"
#include "tests/support.h"

namespace mi::kernels {
namespace {

using test::for_each_backend;
using test::random_normal;
using test::worst_difference;

struct Shape {
  int64_t n_q, n_kv;
  int head_dim;
  float softcap = 0;
};

const Shape kShapes[] = {{1, 1, 64},       {1, 200, 64},   {63, 63, 64},      {64, 64, 64},
                         {65, 65, 64},     {65, 190, 128}, {300, 300, 8},     {130, 257, 80},
                         {127, 640, 96},   {64, 64, 256},  {200, 333, 64, 5}, {129, 129, 128, 30},
                         {1, 64, 64, 1.0F}};

struct Problem {
  std::vector<float> q, k, v;
  AttentionHead head;
  explicit Problem(const Shape& shape, uint64_t seed, float sigma = 1) {
    const int64_t q_stride = shape.head_dim + 3;  // strided, unaligned rows
    const int64_t k_stride = shape.head_dim * 2;
    q = random_normal(static_cast<size_t>(shape.n_q * q_stride), seed, sigma);
    k = random_normal(static_cast<size_t>(shape.n_kv * k_stride), seed + 1, sigma);
    v = random_normal(static_cast<size_t>(shape.n_kv * k_stride), seed + 2);
    head = {.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .q_stride = q_stride,
            .k_stride = k_stride,
            .v_stride = k_stride,
            .n_q = shape.n_q,
            .n_kv = shape.n_kv,
            .head_dim = shape.head_dim,
            .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
            .softcap = shape.softcap};
  }
  void round_to_bf16() {
    for (auto* values : {&q, &k, &v})
      for (float& x : *values) x = to_float(to_bf16(x));
  }
};

std::vector<uint64_t> random_bitmap(int64_t keys, double density, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<uint64_t> words(static_cast<size_t>(bitmap_words(keys)));
  for (int64_t j = 0; j < keys; ++j)
    if (static_cast<double>(engine() >> 11) * 0x1p-53 < density)
      words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
  return words;
}

// f32 in, f32 accumulation over up to 640 keys: a few hundred ulp at worst.
constexpr test::Tolerance kTolerance{2e-5, 2e-5};

TEST_CASE("four tokens by hand", "[cpu]") {
  // scale 1, q.k is 0 or log 3: weights are 1/4 and 3/4 by inspection.
  const float log3 = std::log(3.0f);
  std::vector<float> q(4 * 8, 0.0f), k(4 * 8, 0.0f), v(4 * 8, 0.0f);
  for (int i = 0; i < 4; ++i) q[static_cast<size_t>(i * 8)] = 1;
  k[1 * 8] = log3;
  for (int i = 0; i < 4; ++i) v[static_cast<size_t>(i * 8)] = static_cast<float>(i);
  const AttentionHead head{q.data(), k.data(), v.data(), 8, 8, 8, 4, 4, 8, 1, 0};
  for (const Backend* backend : all_backends()) {
    if (!backend->available()) continue;
    INFO(backend->name());
    AlignedBuffer<char> scratch(backend->scratch_bytes(8));
    std::vector<float> o(4 * 8);
    float lse[4];
    CHECK(backend->attend(head, 0, nullptr, o.data(), 8, lse, scratch.data()) == 1);
    CHECK(o[0] == Approx(0));           // row 0 sees key 0
    CHECK(o[8] == Approx(0.75));        // keys 0 (1/4), 1 (3/4)
    CHECK(o[16] == Approx(1.0));        // (0*1 + 1*3 + 2*1)/5
    CHECK(o[24] == Approx(8.0 / 6.0));  // (0 + 3 + 2 + 3)/6
    CHECK(lse[3] == Approx(std::log(6.0)));
  }
}

TEST_CASE("attend agrees with the reference for any selection", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    uint64_t seed = 1;
    for (const Shape& shape : kShapes) {
      for (const float sigma : {1.0f, 8.0f}) {  // 8: nearly one-hot rows
        const Problem problem(shape, ++seed, sigma);
        AlignedBuffer<char> scratch(backend.scratch_bytes(shape.head_dim));
        for (int64_t m = 0; m < problem.head.row_blocks(); ++m) {
          const int64_t keys = problem.head.keys_end(m);
          for (const double density : {-1.0, 0.0, 0.02, 0.5, 1.0}) {
            const auto bitmap = random_bitmap(keys, density, seed + static_cast<uint64_t>(m));
            const uint64_t* words = density < 0 ? nullptr : bitmap.data();
            const auto size = static_cast<size_t>(problem.head.rows(m) * shape.head_dim);
            std::vector<float> got(size), want(size);
            std::vector<float> got_lse(static_cast<size_t>(problem.head.rows(m))),
                want_lse(got_lse);
            const int64_t tiles = backend.attend(problem.head, m, words, got.data(), shape.head_dim,
                                                 got_lse.data(), scratch.data());
            const int64_t want_tiles = reference_backend().attend(
                problem.head, m, words, want.data(), shape.head_dim, want_lse.data(), nullptr);
            INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " d " << shape.head_dim << " cap "
                        << shape.softcap << " block " << m << " density " << density << " seed "
                        << seed);
            CHECK(tiles == want_tiles);
            // A score is a sum of d products, in size up to 4 sigma^2 sqrt(d): 4 ulp of that move
            // the exponent, so lse by as much and o (|v| < 4) by four times as much.
            const double score_error = 4 * 0x1p-24 * 4 * sigma * sigma * std::sqrt(shape.head_dim);
            CHECK(worst_difference(got, want, {1e-5 + 4 * score_error, 0}) == "");
            CHECK(worst_difference(got_lse, want_lse, {1e-5 + score_error, 0}) == "");
          }
        }
      }
    }
  });
}

TEST_CASE("equal scores share the mass evenly", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    Problem problem({130, 130, 64}, 3, 0.0f);
    AlignedBuffer<char> scratch(backend.scratch_bytes(64));
    std::vector<float> o(64 * 64), lse(64);
    backend.attend(problem.head, 1, nullptr, o.data(), 64, lse.data(), scratch.data());
    for (int r = 0; r < 64; ++r) CHECK(lse[static_cast<size_t>(r)] == Approx(std::log(65.0 + r)));
  });
}

TEST_CASE("probabilities agree with the reference", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    for (const Shape& shape : kShapes) {
      const Problem problem(shape, 77);
      const int rows = static_cast<int>(std::min<int64_t>(64, shape.n_q));
      std::vector<int64_t> visible;
      for (int r = 0; r < rows; ++r) visible.push_back(1 + (r * 37) % shape.n_kv);
      const int64_t stride = shape.n_kv + 5;
      std::vector<float> got(static_cast<size_t>(rows * stride), -1.0f), want = got;
      ProbabilityRows call{problem.head.q,
                           problem.head.q_stride,
                           rows,
                           problem.head.k,
                           problem.head.k_stride,
                           shape.head_dim,
                           problem.head.scale,
                           shape.softcap,
                           visible.data(),
                           got.data(),
                           stride};
      AlignedBuffer<char> scratch(backend.scratch_bytes(shape.head_dim));
      backend.probabilities(call, scratch.data());
      call.p = want.data();
      reference_backend().probabilities(call, nullptr);
      CHECK(worst_difference(got, want, kTolerance) == "");
    }
  });
}

TEST_CASE("score agrees with the reference", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    uint64_t seed = 100;
    for (const Shape& shape : kShapes) {
      Problem problem(shape, ++seed);
      const bool narrow = &backend.f32() != &backend;
      if (narrow) problem.round_to_bf16();
      const auto bf16_of = [](const std::vector<float>& from) {
        std::vector<bf16> to;
        for (float x : from) to.push_back(to_bf16(x));
        return to;
      };
      const std::vector<bf16> k = bf16_of(problem.k), v = bf16_of(problem.v);
      const int d = shape.head_dim;
      const auto w = random_normal(static_cast<size_t>(d * d), seed + 9);
      std::vector<float> gram(static_cast<size_t>(d * d));
      for (int a = 0; a < d; ++a)
        for (int b = 0; b < d; ++b)
          for (int x = 0; x < d; ++x)
            gram[static_cast<size_t>(a * d + b)] +=
                w[static_cast<size_t>(a * d + x)] * w[static_cast<size_t>(b * d + x)];
      for (int64_t m = 0; m < problem.head.row_blocks(); ++m) {
        const int64_t keys = problem.head.keys_end(m);
        std::vector<float> o(static_cast<size_t>(64 * d)), lse(64);
        reference_backend().attend(problem.head, m, nullptr, o.data(), d, lse.data(), nullptr);
        std::vector<float> norms;
        for (int64_t r = 0; r < problem.head.rows(m); ++r)
          norms.push_back(std::inner_product(o.begin() + r * d, o.begin() + (r + 1) * d,
                                             o.begin() + r * d, 0.0f));
        const bool with_sink = m % 2 == static_cast<int64_t>(seed % 2);
        constexpr int kLevels = 5;
        std::mt19937_64 engine(seed);
        std::vector<std::vector<uint8_t>> level(3);
        for (auto& family : level)
          for (int64_t j = 0; j < keys; ++j)
            family.push_back(static_cast<uint8_t>(engine() % (kLevels + 1)));
        std::fill(level[2].begin(), level[2].end(), uint8_t{kLevels});  // selects nothing at all
        std::vector<std::vector<int32_t>> counts(3, std::vector<int32_t>(kLevels + 1));
        for (size_t f = 0; f < 3; ++f)
          for (uint8_t l : level[f]) ++counts[f][l];
        // An attention sink: mass that no key has, with the keys' share of it in lse.
        std::vector<float> rest;
        for (int r = 0; with_sink && r < problem.head.rows(m); ++r) {
          rest.push_back(static_cast<float>(engine() % 1000) / 1001.0f);
          lse[static_cast<size_t>(r)] -= std::log1p(-rest.back());
        }
        const auto run = [&](const Backend& with, std::vector<float>& mass,
                             std::vector<float>& error, std::vector<float>& columns) {
          std::vector<float> norm(64, 7.0f);
          mass.assign(3 * kLevels * 64, 7.0f);
          error.assign(3 * kLevels * 64, 7.0f);
          columns.assign(static_cast<size_t>(keys), 7.0f);
          std::vector<LevelFamily> families;
          for (size_t f = 0; f < 3; ++f)
            families.push_back({level[f].data(), kLevels, counts[f].data(),
                                mass.data() + f * kLevels * 64, error.data() + f * kLevels * 64});
          AlignedBuffer<char> scratch(with.score_scratch_bytes(d, shape.n_kv, kLevels));
          ScoreBlock block{.head = problem.head,
                           .rows = {},
                           .block = m,
                           .lse = lse.data(),
                           .rest = with_sink ? rest.data() : nullptr,
                           .column_mass = columns.data(),
                           .families = families,
                           .gram = gram.data(),
                           .norm = norm.data()};
          if (narrow)
            block.rows = {k.data(),   v.data(), problem.head.k_stride, problem.head.v_stride,
                          shape.n_kv, d};
          with.score(block, scratch.data());
          norm.resize(norms.size());
          for (size_t r = 0; r < rest.size(); ++r) norm[r] /= (1 - rest[r]) * (1 - rest[r]);
          CHECK(worst_difference(norm, norms, {1e-5, 1e-4}) == "");
        };
        std::vector<float> got_mass, got_error, got_columns, want_mass, want_error, want_columns;
        run(backend, got_mass, got_error, got_columns);
        run(reference_backend(), want_mass, want_error, want_columns);
        CHECK(worst_difference(got_mass, want_mass, kTolerance) == "");
        CHECK(worst_difference(got_columns, want_columns, {1e-4, 2e-5}) == "");
        // Differences of outputs of size 1, projected by W of d x d: relative to d^2.
        CHECK(worst_difference(got_error, want_error, {1e-6 * d * d, 1e-3}) == "");
      }
    }
  });
}

TEST_CASE("a backend refuses what it cannot run and names it", "[cpu]") {
  Problem problem({4, 4, 64}, 1);
  AttentionHead head = problem.head;
  const Backend& backend = *all_backends().front();
  head.head_dim = 12;
  CHECK(backend.supports(head).code == Code::unsupported);
  CHECK(backend.supports(head).what.find("12") != std::string::npos);
  head.head_dim = 64;
  head.n_kv = 3;
  CHECK(backend.supports(head).code == Code::invalid_argument);
  CHECK(choose_backend("nonsense").error().what.find("cpu_generic") != std::string::npos);
  CHECK(choose_backend("reference").value()->name() == "reference");
}

TEST_CASE("unasked, the first backend is chosen that this CPU has and runs fast", "[cpu]") {
  if (std::getenv("MI_BACKEND") != nullptr) MI_SKIP("MI_BACKEND is set");
  const auto chosen = choose_backend();
  REQUIRE(chosen);
  for (const Backend* backend : all_backends()) {
    INFO(backend->name());
    if (!backend->available()) {
      CHECK(!choose_backend(backend->name()));
      continue;
    }
    CHECK(choose_backend(backend->name()).value() == backend);  // by name even if not preferred
    if (!backend->preferred()) continue;
    CHECK(*chosen == backend);
    break;
  }
}

}  // namespace
}  // namespace mi::kernels
