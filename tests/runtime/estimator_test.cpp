// Every pattern's estimate against its formula, naively and in double precision.
#include "libruntime/estimator.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

#include "kernels/tensor_view.h"
#include "libruntime/select.h"
#include "tests/naive.h"
#include "tests/support.h"

namespace mi::runtime {
namespace {

namespace naive = test::naive;
using kernels::AttentionHead;
using kernels::Backend;
using test::for_each_backend;
using test::random_normal;

struct Shape {
  int64_t n_q, n_kv;
  int head_dim;
  float softcap = 0;
};

const Shape kShapes[] = {{1, 1, 8},     {1, 64, 16},   {1, 300, 16},      {63, 63, 16},
                         {64, 64, 8},   {65, 65, 16},  {64, 129, 24},     {40, 333, 16},
                         {130, 257, 8}, {333, 333, 8}, {200, 330, 16, 5}, {257, 700, 16}};

struct Problem {
  std::vector<float> q, k;
  AttentionHead head;
  Problem(const Shape& shape, uint64_t seed) {
    const int64_t q_stride = shape.head_dim + 3;
    const int64_t k_stride = shape.head_dim * 2 + 1;
    q = random_normal(static_cast<size_t>(shape.n_q * q_stride), seed * 31, 2);
    k = random_normal(static_cast<size_t>(shape.n_kv * k_stride), seed * 37);
    head = {.q = q.data(),
            .k = k.data(),
            .v = k.data(),
            .q_stride = q_stride,
            .k_stride = k_stride,
            .v_stride = k_stride,
            .n_q = shape.n_q,
            .n_kv = shape.n_kv,
            .head_dim = shape.head_dim,
            .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
            .softcap = shape.softcap};
  }
};

constexpr float kUntouched = -7.0f;

// Estimates of all row blocks, [row_blocks, n_kv + 3], made `step` row blocks at a time.
std::vector<float> run(const AttentionHead& head, const EstimatorParams& params,
                       const Backend& backend, int64_t step = kEstimateGroup) {
  const auto estimator = make_estimator(params);
  const CallShape call{head.n_q, head.n_kv, head.head_dim};
  AlignedBuffer<float> evidence(estimator->evidence_floats(call));
  AlignedBuffer<float> scratch(estimator->scratch_floats(call));
  const int wide = std::max(head.head_dim, estimator->probability_dim(call));
  AlignedBuffer<char> kernel(backend.scratch_bytes(wide));
  std::fill(scratch.span().begin(), scratch.span().end(), NAN);  // nothing is read before written
  std::fill(evidence.span().begin(), evidence.span().end(), NAN);
  const EstimatorMemory memory{evidence.data(), scratch.data(), kernel.data()};
  const int64_t stride = head.n_kv + 3;
  std::vector<float> e(static_cast<size_t>(call.row_blocks() * stride), kUntouched);
  estimator->prepare(head, backend, memory);
  for (int64_t begin = 0; begin < call.row_blocks(); begin += step)
    estimator->rows(head, backend, memory, begin, std::min(call.row_blocks(), begin + step),
                    e.data() + begin * stride, stride);
  return e;
}

// Every estimate there is, counts forms with hostile counts.
std::vector<EstimatorParams> all_params() {
  std::vector<EstimatorParams> all;
  for (Pattern pattern : {Pattern::dense, Pattern::a_shape, Pattern::vertical_slash,
                          Pattern::block_sparse, Pattern::stripe, Pattern::stripe_vertical_slash}) {
    all.emplace_back();
    all.back().pattern = pattern;
  }
  EstimatorParams params;
  params.pattern = Pattern::block_sparse;
  params.counts = true;
  all.push_back(params);
  params.counts = false;
  params.estimate = BlockEstimate::antidiagonal;
  for (int stride : {8, 16}) {
    params.stride = stride;
    all.push_back(params);
  }
  params = {};
  params.pattern = Pattern::vertical_slash;
  params.counts = true;
  for (const auto& [vertical, slash] : {std::pair<double, double>{30, 800}, {500, 100}, {1, 1}}) {
    params.vertical = vertical;
    params.slash = slash;
    all.push_back(params);
  }
  return all;
}

std::string name_of(const EstimatorParams& params) {
  return std::string(to_string(params.pattern)) + " " + std::string(to_string(params.estimate)) +
         " stride " + std::to_string(params.stride) + (params.counts ? " counts " : " density ") +
         std::to_string(params.vertical) + "," + std::to_string(params.slash) + " sink " +
         std::to_string(params.sink) + " local " + std::to_string(params.local) + " last " +
         std::to_string(params.last);
}

void check_estimates(const AttentionHead& head, const naive::Estimates& want,
                     const std::vector<float>& got) {
  const int64_t stride = head.n_kv + 3;
  int64_t wrong = 0;
  std::string worst;
  for (int64_t m = 0; m < want.e.rows(); ++m) {
    const int64_t keys = std::min(head.n_q, (m + 1) * 64) + head.n_kv - head.n_q;
    for (int64_t j = 0; j < keys; ++j) {
      const auto value = static_cast<double>(got[static_cast<size_t>(m * stride + j)]);
      const bool right = std::isinf(want.e(m, j)) ? std::isinf(value) && value > 0
                                                  : value >= want.lo(m, j) * (1 - 2e-7) - 1e-30 &&
                                                        value <= want.hi(m, j) * (1 + 2e-7) + 1e-30;
      if (!right && wrong++ == 0)
        worst = "block " + std::to_string(m) + " key " + std::to_string(j) + ": got " +
                std::to_string(value) + ", want " + std::to_string(want.e(m, j));
    }
    for (int64_t j = head.n_kv; j < stride; ++j)
      CHECK(got[static_cast<size_t>(m * stride + j)] == kUntouched);
  }
  INFO(worst);
  CHECK(wrong == 0);
}

TEST_CASE("estimates equal their formulas", "[cpu]") {
  uint64_t seed = 0;
  for (const Shape& shape : kShapes) {
    const Problem problem(shape, ++seed);
    const auto dense = naive::dense(problem.head);
    for (const EstimatorParams& params : all_params()) {
      const auto want = naive::estimates(problem.head, dense, params);
      for_each_backend([&](const Backend& backend) {
        INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " seed " << seed << " "
                    << name_of(params));
        check_estimates(problem.head, want, run(problem.head, params, backend));
      });
    }
  }
}

TEST_CASE("forced keys are infinite and only they", "[cpu]") {
  for (const Shape& shape : {Shape{333, 333, 8}, {65, 65, 8}, {100, 400, 8}, {1, 200, 8}}) {
    const Problem problem(shape, 50);
    const auto dense = naive::dense(problem.head);
    for (EstimatorParams params : all_params()) {
      for (const auto& [sink, local, last] : {std::array<int64_t, 3>{16, 128, 64},
                                              {1, 1, 1},
                                              {0, 64, 65},
                                              {5000, 0, 0},
                                              {0, 5000, 0},
                                              {3, 10, 5000}}) {
        params.sink = sink;
        params.local = local;
        params.last = last;
        INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " " << name_of(params));
        check_estimates(problem.head, naive::estimates(problem.head, dense, params),
                        run(problem.head, params, **kernels::choose_backend()));
      }
    }
  }
}

TEST_CASE("windows select what looking at every estimate selects", "[cpu]") {
  struct Selected {
    std::vector<uint64_t> words;
    std::vector<int64_t> tiles;
    std::vector<uint32_t> raises;
    bool operator==(const Selected&) const = default;
  };
  const Backend& backend = **kernels::choose_backend();
  int compared = 0;
  for (const Shape& shape : kShapes) {
    const Problem problem(shape, 55);
    const AttentionHead& head = problem.head;
    const auto blocks = static_cast<size_t>(head.row_blocks());
    const auto words = static_cast<size_t>(kernels::bitmap_words(head.n_kv));
    std::vector<float> estimates(blocks * static_cast<size_t>(head.n_kv));
    EstimatorMemory memory;
    memory.estimates = estimates.data();
    for (const auto& [sink, local, last] : {std::array<int64_t, 3>{0, 0, 0},
                                            {4, 0, 64},
                                            {16, 128, 1},
                                            {5000, 0, 65},
                                            {3, 10, 5000}}) {
      EstimatorParams params;
      params.pattern = Pattern::a_shape;
      params.sink = sink;
      params.local = local;
      params.last = last;
      const auto estimator = make_estimator(params);
      for (const float lambda : {1.0f, 1.0f / 32, 1.0f / 63, 1.0f / 64, 1.0f / 65, 1.0f / 200,
                                 1.0f / 300.5f, 1e-6f, 0.0f, -1.0f, 3.0f}) {
        const auto selected_by = [&](auto select) {
          Selected out{std::vector<uint64_t>(blocks * words), std::vector<int64_t>(blocks),
                       std::vector<uint32_t>(blocks * (kRaises + 1))};
          // Of a threshold that is not positive no rise is asked for.
          const bool can_rise = lambda > 0;
          select(Selection{.words = out.words.data(),
                           .tiles = out.tiles.data(),
                           .raises = can_rise ? out.raises.data() : nullptr});
          return out;
        };
        const auto got = selected_by([&](const Selection& out) {
          estimator->select(head, backend, memory, 0, head.row_blocks(), lambda, out);
        });
        const auto want = selected_by([&](const Selection& out) {
          estimator->Estimator::select(head, backend, memory, 0, head.row_blocks(), lambda, out);
        });
        INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " sink " << sink << " local " << local
                    << " last " << last << " lambda " << lambda);
        CHECK(got == want);
        ++compared;
      }
    }
  }
  CHECK(compared == 660);
}

TEST_CASE("estimates do not depend on how row blocks are grouped", "[cpu]") {
  const Problem problem({700, 900, 8}, 60);
  for (const EstimatorParams& params : all_params()) {
    INFO(name_of(params));
    const auto whole = run(problem.head, params, **kernels::choose_backend());
    for (int64_t step : {1, 3, 7}) {
      const auto parts = run(problem.head, params, **kernels::choose_backend(), step);
      // Keys beyond a block's own end are not part of the estimate.
      int64_t different = 0;
      for (int64_t m = 0; m < 11; ++m)
        for (int64_t j = 0; j < std::min<int64_t>(700, (m + 1) * 64) + 200; ++j) {
          const float a = whole[static_cast<size_t>(m * 903 + j)];
          const float b = parts[static_cast<size_t>(m * 903 + j)];
          // A tile's last keys may be summed by another code path: a rounding of the score.
          different += a == b || std::abs(a - b) <= 2e-6f * a ? 0 : 1;
        }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("a row block's density sums to its 64 rows", "[cpu]") {
  // 64 keys for every block, so that a block's share is spread over as many keys as it covers.
  for (const Shape& shape : {Shape{64, 640, 16}, {320, 320, 16}, {192, 1024, 8}}) {
    const Problem problem(shape, 70);
    const auto dense = naive::dense(problem.head);
    for (const EstimatorParams& params : all_params()) {
      if (params.counts || params.pattern == Pattern::dense || params.pattern == Pattern::a_shape ||
          params.pattern == Pattern::vertical_slash ||
          params.pattern == Pattern::stripe_vertical_slash)
        continue;
      INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " " << name_of(params));
      const auto raw = naive::raw_estimates(problem.head, dense, params);
      const auto got = run(problem.head, params, **kernels::choose_backend());
      for (int64_t m = 0; m < dense.blocks(); ++m) {
        double sum = 0;
        for (int64_t j = 0; j < dense.keys_end(m); ++j) {
          const auto e = static_cast<double>(got[static_cast<size_t>(m * (shape.n_kv + 3) + j)]);
          sum += std::isinf(e) ? raw.e(m, j) : e;  // the own diagonal block is forced
        }
        CHECK(sum == Approx(64).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("column and diagonal evidence by hand", "[cpu]") {
  // All scores are 0 but those of key 5, which takes all: v[5] = 64, and diagonals at distance
  // i - 5 carry mass 1 each.
  constexpr int64_t kTokens = 256;
  std::vector<float> q(kTokens * 8, 0.0f), k(kTokens * 8, 0.0f);
  for (int64_t i = 0; i < kTokens; ++i) q[static_cast<size_t>(i * 8)] = 1;
  k[5 * 8] = 200;
  const AttentionHead head{q.data(), k.data(), k.data(), 8, 8, 8, kTokens, kTokens, 8, 1, 0};
  EstimatorParams params;
  params.pattern = Pattern::vertical_slash;
  const auto e = run(head, params, **kernels::choose_backend());
  const auto at = [&](int64_t m, int64_t j) {
    return e[static_cast<size_t>(m * (kTokens + 3) + j)];
  };
  CHECK(at(1, 5) == Approx(64));      // no mass at distances 59 .. 122
  CHECK(at(3, 5) == Approx(64 + 1));  // distances 187 .. 250 hold 64 of 64 rows
  CHECK(at(3, 4) == Approx(63.0 / 64));
  CHECK(at(3, 69) == Approx(0).margin(1e-6));
  CHECK(std::isinf(at(1, 64)));
}

TEST_CASE("published counts keep exactly that many columns and distances", "[cpu]") {
  const Shape shape{64, 700, 16};  // one row block: offsets t = 636 - j before its own keys
  const Problem problem(shape, 80);
  const int64_t first = 636;
  const auto keys_with = [&](double vertical, double slash) {
    EstimatorParams params;
    params.pattern = Pattern::vertical_slash;
    params.counts = true;
    params.vertical = vertical;
    params.slash = slash;
    const auto e = run(problem.head, params, **kernels::choose_backend());
    std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(700)));
    select_keys(**kernels::choose_backend(), e.data(), 700, 1, words.data());
    std::vector<char> selected;
    for (size_t j = 0; j < 700; ++j)
      selected.push_back(static_cast<char>(words[j / 64] >> (j % 64) & 1));
    return selected;
  };
  const auto dense = naive::dense(problem.head);
  std::vector<double> columns(700, 0), distances(700, 0);
  for (int64_t i = 0; i < 64; ++i)
    for (int64_t j = 0; j <= i + first; ++j) {
      columns[static_cast<size_t>(j)] += dense.p(i, j);
      distances[static_cast<size_t>(i + first - j)] += dense.p(i, j);
    }
  // The best `count` of a score with indices below `forced` ahead of all.
  const auto best = [](const std::vector<double>& score, size_t forced, size_t count) {
    std::vector<size_t> order;
    for (size_t i = 0; i < score.size(); ++i) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const bool a_forced = a < forced, b_forced = b < forced;
      if (a_forced || b_forced) return a_forced && (!b_forced || a < b);
      return score[a] > score[b];
    });
    std::vector<char> kept(score.size(), 0);
    for (size_t i = 0; i < std::min(count, order.size()); ++i) kept[order[i]] = 1;
    return kept;
  };
  for (size_t vertical : {0, 1, 29, 30, 31, 60, 300, 700, 5000}) {
    INFO("vertical " << vertical);
    // slash 1: distance 0, which covers the block's own keys.
    const auto selected = keys_with(static_cast<double>(vertical), 1);
    auto want = best(columns, 30, vertical);
    std::fill(want.begin() + first, want.end(), char{1});
    CHECK(selected == want);
  }
  for (size_t slash : {1, 2, 99, 100, 101, 150, 400, 700, 5000}) {
    INFO("slash " << slash);
    const auto selected = keys_with(0, static_cast<double>(slash));
    const auto kept = best(distances, 100, slash);
    std::vector<char> want(700, 0);
    for (int64_t j = 0; j < 700; ++j)
      for (int64_t r = 0; r < 64; ++r) {  // some row of the block has j at a kept distance
        const int64_t distance = first + r - j;
        if (distance >= 0 && distance < 700 && kept[static_cast<size_t>(distance)] != 0)
          want[static_cast<size_t>(j)] = 1;
      }
    CHECK(selected == want);
  }
}

TEST_CASE("published blocks keep exactly the best ones", "[cpu]") {
  const Shape shape{333, 500, 16};
  const Problem problem(shape, 90);
  const auto dense = naive::dense(problem.head);
  EstimatorParams params;
  params.pattern = Pattern::block_sparse;
  for (const auto estimate : {BlockEstimate::pooled, BlockEstimate::antidiagonal}) {
    params.estimate = estimate;
    params.counts = false;
    const auto share = naive::raw_estimates(problem.head, dense, params);
    params.counts = true;
    const auto e = run(problem.head, params, **kernels::choose_backend());
    for (int64_t blocks : {1, 2, 3, 7, 8, 100}) {
      for (int64_t m = 0; m < dense.blocks(); ++m) {
        const int64_t keys = dense.keys_end(m);
        std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(keys)));
        select_keys(**kernels::choose_backend(), e.data() + m * 503, keys,
                    1.0f / static_cast<float>(blocks), words.data());
        int64_t selected = 0;
        double least = INFINITY, most = 0;  // of the selected, of the others
        for (int64_t b = 0; b < naive::ceil_div(keys, 64); ++b) {
          const uint64_t all =
              keys - b * 64 >= 64 ? ~uint64_t{0} : (uint64_t{1} << (keys % 64)) - 1;
          const uint64_t word = words[static_cast<size_t>(b)];
          CHECK((word == 0 || word == all));
          selected += word == 0 ? 0 : 1;
          double& bound = word == 0 ? most : least;
          const double mass = share.e(m, b * 64);
          bound = word == 0 ? std::max(bound, mass) : std::min(bound, mass);
        }
        INFO("blocks " << blocks << " row block " << m);
        CHECK(selected == std::min(blocks, naive::ceil_div(keys, 64)));
        CHECK(least >= most * (1 - 1e-5));
      }
    }
  }
}

TEST_CASE("stated costs of the estimates follow their formulas", "[cpu]") {
  const CallShape call{4096, 4096, 64};
  const auto flops = [&](const EstimatorParams& params) {
    return make_estimator(params)->flops(call);
  };
  const double n = 4096, d = 64;
  EstimatorParams params;
  CHECK(flops(params) == 0);
  params.pattern = Pattern::a_shape;
  CHECK(flops(params) == 0);
  params.pattern = Pattern::vertical_slash;
  CHECK(flops(params) == 2 * 64 * n * d);
  // N^2 d / 64 with causality: half of 2 * (N/64) * N * d, and half a block of diagonal.
  params.pattern = Pattern::stripe;
  CHECK(flops(params) == Approx(n * n * d / 64).epsilon(0.02));
  params.pattern = Pattern::stripe_vertical_slash;
  CHECK(flops(params) == Approx(n * n * d / 64 + 2 * 64 * n * d).epsilon(0.02));
  params.pattern = Pattern::block_sparse;
  CHECK(flops(params) == Approx(n * n * d / 4096).epsilon(0.02));
  params.estimate = BlockEstimate::antidiagonal;
  for (int stride : {8, 16}) {
    params.stride = stride;
    CHECK(flops(params) == Approx(n * n * d / stride).epsilon(0.02));
  }
}

}  // namespace
}  // namespace mi::runtime
