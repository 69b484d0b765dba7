// bf16 attention of every backend against the double-precision reference on the same bf16 numbers.
// Tolerance: tests/ideal.h.
#include "kernels/packed.h"

#include <catch2/catch.hpp>

#include <immintrin.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>

#include "kernels/reference.h"
#include "kernels/tensor_view.h"
#include "tests/ideal.h"
#include "tests/support.h"

namespace mi::kernels {
namespace {

using test::for_each_backend;
using test::random_normal;

struct Shape {
  int64_t n_q, n_kv;
  int head_dim;
  int heads = 1;
  float softcap = 0;
  float sigma = 1;
  bool tokens_first = false;  // [tokens, heads, dim], else [heads, tokens, dim]
  float scale = 0;            // 0: 1/sqrt(head_dim)
};

std::vector<bf16> random_bf16(size_t count, uint64_t seed, float sigma) {
  std::vector<bf16> values;
  values.reserve(count);
  for (float x : random_normal(count, seed, sigma)) values.push_back(to_bf16(x));
  return values;
}

struct Problem {
  Shape shape;
  std::vector<bf16> q, k, v, o;
  std::vector<float> lse, wide_q, wide_k, wide_v;
  PackedGroup group;             // without blocks
  std::vector<HeadBlock> heads;  // without a row block

  Problem(const Shape& of, uint64_t seed) : shape(of) {
    const int64_t d = shape.head_dim;
    const auto size = static_cast<size_t>(shape.n_q * shape.heads * d);
    q = random_bf16(size, seed, shape.sigma);
    k = random_bf16(static_cast<size_t>(shape.n_kv * (d + 8)), seed + 1, shape.sigma);
    v = random_bf16(static_cast<size_t>(shape.n_kv * (d + 3)), seed + 2, 1);
    o.resize(size);
    lse.resize(static_cast<size_t>(shape.n_q * shape.heads));
    group.rows = {k.data(), v.data(), d + 8, d + 3, shape.n_kv, shape.head_dim};
    group.q_stride = group.o_stride = shape.tokens_first ? shape.heads * d : d;
    group.n_q = shape.n_q;
    group.scale = shape.scale == 0 ? 1 / std::sqrt(static_cast<float>(d)) : shape.scale;
    group.softcap = shape.softcap;
    for (int h = 0; h < shape.heads; ++h) {
      const int64_t at = shape.tokens_first ? h * d : h * shape.n_q * d;
      heads.push_back({q.data() + at, o.data() + at, lse.data() + h * shape.n_q});
    }
    for (const auto& [from, to] : {std::pair{&q, &wide_q}, {&k, &wide_k}, {&v, &wide_v}})
      for (bf16 x : *from) to->push_back(to_float(x));
  }
  [[nodiscard]] HeadBlock part(size_t h, int64_t block, const uint64_t* keys) const {
    HeadBlock result = heads[h];
    result.block = block;
    result.keys = keys;
    return result;
  }
  void attend(const Backend& backend, std::span<HeadBlock> blocks) const {
    AlignedBuffer<std::byte> scratch(backend.packed_scratch_bytes(shape.head_dim, shape.n_kv));
    AlignedBuffer<std::byte> packed(backend.packed_bytes(shape.head_dim, shape.n_kv));
    for (int64_t tile = 0; tile < group.rows.tiles(); ++tile)
      backend.pack(group.rows, tile, packed.data());
    PackedGroup call = group;
    call.packed = packed.data();
    call.blocks = blocks;
    backend.attend_packed(call, scratch.data());
  }
  [[nodiscard]] AttentionHead wide(size_t h) const {
    AttentionHead head = group.shape();
    head.q = wide_q.data() + (heads[h].q - q.data());
    head.k = wide_k.data();
    head.v = wide_v.data();
    head.q_stride = group.q_stride;
    head.k_stride = group.rows.k_stride;
    head.v_stride = group.rows.v_stride;
    return head;
  }
};

// Keys as a pattern would pick them: single ones, runs of any length, or whole aligned tiles.
std::vector<uint64_t> random_selection(int64_t keys, std::mt19937_64& engine) {
  std::vector<uint64_t> words(static_cast<size_t>(bitmap_words(keys)));
  const auto set = [&](int64_t from, int64_t to) {
    for (int64_t j = from; j < std::min(to, keys); ++j)
      words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
  };
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(engine() % static_cast<uint64_t>(n));
  };
  const int64_t many = below(3) == 0 ? keys : 1 + keys / 20;
  switch (below(5)) {
    case 0:
      break;  // nothing
    case 1:
      for (int64_t n = 0; n < many; ++n) {
        const int64_t j = below(keys);
        set(j, j + 1);
      }
      break;
    case 2:
      for (int64_t n = 0; n < 1 + many / 50; ++n) {
        const int64_t j = below(keys);
        set(j, j + 1 + below(150));
      }
      break;
    case 3:
      for (int64_t n = 0; n < 1 + many / 100; ++n) {
        const int64_t j = below(keys) / 64 * 64;
        set(j, j + 64);
      }
      break;
    default:
      set(0, keys);
  }
  return words;
}

// Worst errors over all heads of the group, each as a share of what is allowed.
struct Worst {
  double o = 0, lse = 0;
};

// All heads on one row block.
Worst check_block(const Backend& backend, const Problem& problem, int64_t block,
                  const uint64_t* keys) {
  std::vector<HeadBlock> parts;
  for (size_t h = 0; h < problem.heads.size(); ++h) parts.push_back(problem.part(h, block, keys));
  problem.attend(backend, parts);
  Worst worst;
  for (size_t h = 0; h < parts.size(); ++h) {
    const AttentionHead head = problem.wide(h);
    const test::Ideal ideal = test::ideal_of<bf16>(head, block, keys);
    const int64_t first = head.first_row(block);
    const int rows = head.rows(block);
    std::vector<float> o(static_cast<size_t>(rows * head.head_dim)), lse(static_cast<size_t>(rows));
    CHECK(parts[h].tiles == reference_backend().attend(head, block, keys, o.data(), head.head_dim,
                                                       lse.data(), nullptr));
    // |v| < 6; scores err by ulps of f32, and so does lse.
    const double allowed =
        2 * ideal.error + 6 * test::lse_tolerance(ideal) * (ideal.error > 0 ? 1 : 0);
    for (int r = 0; r < rows; ++r) {
      for (int x = 0; x < head.head_dim; ++x) {
        const double got =
            static_cast<double>(to_float(parts[h].o[(first + r) * problem.group.o_stride + x]));
        const double error = std::abs(got - ideal.o[static_cast<size_t>(r * head.head_dim + x)]);
        const double share = error == 0 ? 0 : error / std::max(allowed, 1e-300);
        worst.o = std::isfinite(share) ? std::max(worst.o, share) : HUGE_VAL;
      }
      const auto got = static_cast<double>(parts[h].lse[first + r]);
      const double want = ideal.lse[static_cast<size_t>(r)];
      if (std::isinf(want) || !std::isfinite(got)) {
        if (got != want) worst.lse = HUGE_VAL;
        continue;
      }
      worst.lse = std::max(worst.lse, std::abs(got - want) / test::lse_tolerance(ideal));
    }
  }
  return worst;
}

std::string describe(const Shape& s, int64_t block, uint64_t seed) {
  return "n_q " + std::to_string(s.n_q) + " n_kv " + std::to_string(s.n_kv) + " d " +
         std::to_string(s.head_dim) + " heads " + std::to_string(s.heads) + " cap " +
         std::to_string(s.softcap) + " sigma " + std::to_string(s.sigma) + " block " +
         std::to_string(block) + " seed " + std::to_string(seed);
}

TEST_CASE("bf16 conversion rounds to nearest even and keeps what is special", "[cpu]") {
  CHECK(to_float(to_bf16(1.0f)) == 1.0f);
  CHECK(to_bf16(1.00390625f).bits == 0x3f80);  // a tie, to even
  CHECK(to_bf16(1.01171875f).bits == 0x3f82);  // a tie, to even
  CHECK(to_bf16(1.00390637f).bits == 0x3f81);
  CHECK(to_bf16(-std::numeric_limits<float>::infinity()).bits == 0xff80);
  CHECK(to_bf16(3.4e38f).bits == 0x7f80);
  CHECK(std::isnan(to_float(to_bf16(std::nanf("")))));
}

// The CPU's own conversions, the independent source.
__attribute__((target("f16c"))) float by_cpu(f16 x) {
  return _cvtsh_ss(x.bits);
}
__attribute__((target("f16c"))) f16 by_cpu(float x) {
  return {_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)};
}

TEST_CASE("f16 conversion is the CPU's, for every half and on and beside every midpoint", "[cpu]") {
  if (__builtin_cpu_supports("f16c") == 0) MI_SKIP("this CPU lacks F16C");
  int64_t different = 0;
  const auto compare = [&](float x) {
    // Of a NaN only that it stays one.
    const f16 got = to_f16(x);
    different += (std::isnan(x) ? std::isnan(to_float(got)) : got.bits == by_cpu(x).bits) ? 0 : 1;
  };
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    const bool is_nan = std::isnan(value) && std::isnan(by_cpu(half));
    different +=
        is_nan || std::bit_cast<uint32_t>(value) == std::bit_cast<uint32_t>(by_cpu(half)) ? 0 : 1;
    compare(value);
    const float next = to_float(f16{static_cast<uint16_t>(bits + 1)});
    const float middle = std::isinf(next) ? std::copysign(65520.0f, next) : (value + next) / 2;
    for (const float to : {-HUGE_VALF, HUGE_VALF}) compare(std::nextafter(middle, to));
    compare(middle);
  }
  CHECK(different == 0);
}

TEST_CASE("bf16 attention is as good as bf16 allows, for any shape and selection", "[cpu]") {
  std::vector<Shape> shapes = {{1, 1, 64},
                               {1, 64, 64},
                               {1, 200, 64},
                               {63, 63, 64},
                               {64, 64, 64},
                               {65, 65, 64},
                               {65, 190, 128},
                               {300, 300, 8},
                               {130, 257, 80, 2},
                               {127, 640, 96},
                               {64, 64, 256},
                               {200, 333, 64, 3, 5},
                               {129, 129, 128, 4, 30},
                               {1, 64, 64, 1, 1},
                               {257, 257, 128, 8},
                               {100, 700, 128, 2, 0, 8},
                               {90, 90, 64, 2, 0, 30},
                               {70, 300, 64, 1, 0, 0},
                               {70, 300, 40, 2, 0, 1, true, -0.2f}};
  const uint64_t base = 20260101;
  std::printf("seeds from %llu\n", static_cast<unsigned long long>(base));
  std::mt19937_64 engine(base);
  const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<uint64_t>(n)); };
  while (shapes.size() < (test::kSanitized ? 40 : 200)) {
    const int n_q = 1 + below(200);
    const int dims[] = {8, 16, 24, 40, 64, 64, 72, 80, 96, 128, 128, 136, 256};
    const float sigmas[] = {1, 1, 1, 3, 10};
    shapes.push_back({n_q, n_q + below(below(2) == 0 ? 1 : 500), dims[below(13)], 1 + below(3),
                      below(5) == 0 ? 10.0f : 0.0f, sigmas[below(5)], below(2) == 0});
  }
  for (int d = 8; d <= kMaxHeadDim; d += test::kSanitized ? 40 : 8) shapes.push_back({66, 131, d});
  for_each_backend([&](const Backend& backend) {
    const bool slow = &backend.f32() == &backend;  // converts, by code that other tests cover
    uint64_t seed = base;
    Worst worst;
    int64_t cases = 0;
    std::mt19937_64 pick(base);
    for (const Shape& shape : shapes) {
      if (slow && seed > base + 60) break;
      const Problem problem(shape, ++seed * 10);
      for (int64_t m = 0; m < problem.group.shape().row_blocks(); ++m) {
        const int64_t keys = problem.group.shape().keys_end(m);
        for (int n = 0; n < (slow ? 2 : 4); ++n, ++cases) {
          const auto words = random_selection(keys, pick);
          const Worst got = check_block(backend, problem, m, n == 0 ? nullptr : words.data());
          INFO(describe(shape, m, seed) << " selection " << n);
          CHECK(got.o <= 1);
          CHECK(got.lse <= 1);
          worst = {std::max(worst.o, got.o), std::max(worst.lse, got.lse)};
        }
      }
    }
    std::printf("%s: %lld blocks, worst error %.2f of the allowed, lse %.2f\n",
                std::string(backend.name()).c_str(), static_cast<long long>(cases), worst.o,
                worst.lse);
  });
}

TEST_CASE("bf16: blocks of a group, alone or together, and any strides, agree to the bit",
          "[cpu]") {
  for_each_backend([](const Backend& backend) {
    std::mt19937_64 engine(3);
    for (const bool tokens_first : {false, true}) {
      for (const int64_t n_kv : {190, 340, 1900}) {
        const Problem together({190, n_kv, 64, 4, 0, 1, tokens_first}, 5);
        const Problem alone({190, n_kv, 64, 4, 0, 1, tokens_first}, 5);
        // 12 blocks: dense ones, and sparse ones that share their selection or do not.
        std::vector<std::vector<uint64_t>> selections;
        std::vector<HeadBlock> parts;
        for (size_t h = 0; h < 4; ++h)
          for (int64_t m = 0; m < 3; ++m) {
            selections.push_back(random_selection(together.group.shape().keys_end(m), engine));
            const auto& words =
                selections[h % 2 == 0 ? static_cast<size_t>(m) : selections.size() - 1];
            parts.push_back(together.part(h, m, engine() % 4 == 0 ? nullptr : words.data()));
          }
        together.attend(backend, parts);
        for (const HeadBlock& part : parts) {
          const auto h = static_cast<size_t>(&part - parts.data()) / 3;
          HeadBlock one = alone.part(h, part.block, part.keys);
          alone.attend(backend, std::span(&one, 1));
          CHECK(one.tiles == part.tiles);
        }
        bool same = together.lse == alone.lse;
        for (size_t i = 0; i < together.o.size(); ++i)
          same = same && together.o[i].bits == alone.o[i].bits;
        CHECK(same);
      }
    }
  });
}

TEST_CASE("bf16: a full bitmap is dense attention to the bit", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    const Problem problem({200, 333, 64}, 8);
    for (int64_t m = 0; m < 4; ++m) {
      (void)check_block(backend, problem, m, nullptr);
      const auto dense = problem.o;
      const int64_t keys = problem.group.shape().keys_end(m);
      std::vector<uint64_t> words(static_cast<size_t>(bitmap_words(keys)), ~uint64_t{0});
      if (keys % 64 != 0) words.back() = (uint64_t{1} << (keys % 64)) - 1;
      (void)check_block(backend, problem, m, words.data());
      bool same = true;
      for (size_t i = 0; i < dense.size(); ++i) same = same && dense[i].bits == problem.o[i].bits;
      CHECK(same);
    }
  });
}

TEST_CASE("probabilities over packed keys agree with the reference", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    uint64_t seed = 400;
    for (const Shape& shape : {Shape{1, 1, 64},
                               {1, 300, 64},
                               {63, 63, 80},
                               {64, 700, 128},
                               {33, 200, 8},
                               {20, 257, 96, 1, 5},
                               {64, 300, 256},
                               {32, 90, 40},
                               // Maxima rise by tens of octaves from tile to tile.
                               {64, 1000, 64, 1, 0, 30}}) {
      const Problem problem(shape, ++seed);
      const int d = shape.head_dim;
      auto q = random_normal(static_cast<size_t>(shape.n_q * (d + 5)), seed + 7);
      for (float& x : q) x = to_float(to_bf16(x));  // as tiles would round them
      std::vector<int64_t> visible;
      for (int64_t r = 0; r < shape.n_q; ++r) visible.push_back(1 + (r * 37) % shape.n_kv);
      const int64_t stride = shape.n_kv + 5;
      std::vector<float> got(static_cast<size_t>(shape.n_q * stride), -1.0f), want = got;
      ProbabilityRows call{q.data(),
                           d + 5,
                           static_cast<int>(shape.n_q),
                           nullptr,
                           0,
                           d,
                           problem.group.scale,
                           shape.softcap,
                           visible.data(),
                           got.data(),
                           stride};
      AlignedBuffer<std::byte> scratch(backend.packed_scratch_bytes(d, shape.n_kv));
      AlignedBuffer<std::byte> packed(backend.packed_bytes(d, shape.n_kv));
      for (int64_t tile = 0; tile < problem.group.rows.tiles(); ++tile)
        backend.pack(problem.group.rows, tile, packed.data());
      backend.packed_probabilities(call, packed.data(), shape.n_kv, scratch.data());
      call.p = want.data();
      call.k = problem.wide_k.data();
      call.k_stride = problem.group.rows.k_stride;
      reference_backend().probabilities(call, nullptr);
      INFO("n_q " << shape.n_q << " n_kv " << shape.n_kv << " d " << d);
      // 2^x to 7.5e-5 in value and in sum.
      CHECK(test::worst_difference(got, want, {2e-7, 5e-4}) == "");

      call.p = nullptr;
      call.k = nullptr;
      if (!backend.has_codes()) continue;
      for (const float threshold : {0.7f / static_cast<float>(shape.n_kv), 1e-12f, 3.0f}) {
        std::vector<uint8_t> code(static_cast<size_t>(shape.n_q * stride), 7);
        backend.packed_codes(call, packed.data(), shape.n_kv, {threshold, code.data(), stride},
                             scratch.data());
        for (int64_t r = 0; r < shape.n_q; ++r) {
          for (int64_t j = 0; j < stride; ++j) {
            const auto at = static_cast<size_t>(r * stride + j);
            const double exact = 192 + 16 * std::log2(static_cast<double>(want[at]) /
                                                      static_cast<double>(threshold));
            // The sum is good to 7.5e-5, a 600th of a code; scores to f32's rounding, or kept to a
            // 32nd of a code.
            const auto code_of = [](double x) { return std::clamp(std::floor(x), 0.0, 255.0); };
            constexpr double kAllowed = 0.01 + 1.0 / 32;
            if (j >= visible[static_cast<size_t>(r)]) {
              if (j >= shape.n_kv) CHECK(code[at] == 7);
            } else if (code[at] < code_of(exact - kAllowed) ||
                       code[at] > code_of(exact + kAllowed)) {
              FAIL_CHECK("threshold " << threshold << " row " << r << " key " << j << ": "
                                      << int{code[at]} << ", exactly " << exact);
            }
          }
        }
      }
    }
  });
}

TEST_CASE("codes of sums are their logarithms", "[cpu]") {
  for_each_backend([](const Backend& backend) {
    if (!backend.has_codes()) return;
    std::mt19937_64 engine(9);
    std::normal_distribution<float> normal;
    for (const int64_t keys : {0, 1, 15, 16, 17, 64, 1000}) {
      for (const float threshold : {1e-6f, 0.0044f, 1.0f, 4.0f}) {
        std::vector<float> a, b;
        for (int64_t j = 0; j < keys; ++j) {
          a.push_back(j % 7 == 0 ? 0.0f : threshold * std::exp(3 * normal(engine)));
          b.push_back(j % 5 == 0 ? 0.0f : threshold * std::exp(3 * normal(engine)));
        }
        for (const bool both : {false, true}) {
          std::vector<uint8_t> code(static_cast<size_t>(keys) + 1, 7);
          backend.codes_of(a.data(), both ? b.data() : nullptr, keys, threshold, code.data());
          CHECK(code.back() == 7);
          for (size_t j = 0; j + 1 < code.size(); ++j) {
            const double sum = static_cast<double>(a[j]) + (both ? static_cast<double>(b[j]) : 0);
            const double exact = 192 + 16 * std::log2(sum / static_cast<double>(threshold));
            const auto code_of = [](double x) { return std::clamp(std::floor(x), 0.0, 255.0); };
            INFO("sum " << sum << " threshold " << threshold << " exactly " << exact);
            CHECK(code[j] >= code_of(exact - 0.001));
            CHECK(code[j] <= code_of(exact + 0.001));
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace mi::kernels
