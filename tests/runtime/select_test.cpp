// Selection by threshold, thresholds that spend a budget, and parameters between lengths.
#include "libruntime/select.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "libruntime/resolve.h"
#include "tests/support.h"

namespace mi::runtime {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

double uniform(std::mt19937_64& engine) {
  return static_cast<double>(engine() >> 11) * 0x1p-53;
}

TEST_CASE("select_keys sets exactly the bits above the threshold", "[cpu]") {
  test::for_each_backend([&](const kernels::Backend& backend) {
    std::mt19937_64 engine(1);
    for (const int64_t keys : {0, 1, 63, 64, 65, 127, 128, 200, 1000}) {
      std::vector<float> e;
      for (int64_t j = 0; j < keys; ++j) {
        const float choices[] = {0,
                                 1,
                                 std::nextafter(1.0f, 2.0f),
                                 std::nextafter(1.0f, 0.0f),
                                 kInf,
                                 static_cast<float>(2 * uniform(engine))};
        e.push_back(choices[engine() % 6]);
      }
      for (const float lambda : {-1.0f, 0.0f, 1.0f, 1e30f, kInf}) {
        const auto size = static_cast<size_t>(kernels::bitmap_words(keys));
        std::vector<uint64_t> words(size + 1, 0xabcdefabcdefabcdULL);  // stale memory
        const int64_t selected = select_keys(backend, e.data(), keys, lambda, words.data());
        INFO("keys " << keys << " lambda " << lambda);
        int64_t want = 0;
        for (int64_t j = 0; j < static_cast<int64_t>(size) * 64; ++j) {
          const bool expected = j < keys && e[static_cast<size_t>(j)] > lambda;
          want += expected ? 1 : 0;
          const bool got = (words[static_cast<size_t>(j / 64)] >> (j % 64) & 1) != 0;
          if (got != expected) FAIL_CHECK("bit " << j);
        }
        CHECK(selected == want);
        CHECK(words[size] == 0xabcdefabcdefabcdULL);
      }
    }
  });
}

TEST_CASE("fill_tile adds the best of the other keys until the last tile is full", "[cpu]") {
  test::for_each_backend([&](const kernels::Backend& backend) {
    std::mt19937_64 engine(2);
    for (const int64_t keys : {0, 1, 63, 64, 65, 128, 200, 1000}) {
      for (const float lambda : {-1.0f, 0.3f, 0.9f, 0.99f, 30.0f, kInf}) {
        std::vector<float> e;
        for (int64_t j = 0; j < keys; ++j)  // every third is a tie, every 50th is forced
          e.push_back(j % 50 == 49 ? kInf
                      : j % 3 == 0 ? 0.5f
                                   : static_cast<float>(uniform(engine)));
        std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(keys)));
        const int64_t selected = select_keys(backend, e.data(), keys, lambda, words.data());
        const int64_t filled = fill_tile(backend, e.data(), keys, selected, words.data());
        std::vector<int64_t> order(static_cast<size_t>(keys));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
          return e[static_cast<size_t>(a)] > e[static_cast<size_t>(b)];
        });
        INFO("keys " << keys << " lambda " << lambda << " selected " << selected);
        CHECK(filled == std::min(keys, (selected + 63) / 64 * 64));
        for (int64_t rank = 0; rank < keys; ++rank) {
          const auto j = static_cast<size_t>(order[static_cast<size_t>(rank)]);
          const bool got = (words[j / 64] >> (j % 64) & 1) != 0;
          if (got != (rank < filled)) FAIL_CHECK("rank " << rank);
        }
      }
    }
  });
}

TEST_CASE("codes are selected, filled and counted as the estimates they stand for", "[cpu]") {
  test::for_each_backend([&](const kernels::Backend& backend) {
    std::mt19937_64 engine(3);
    for (const int64_t keys : {0, 1, 63, 64, 65, 128, 200, 1000, 5000}) {
      for (const int most : {1, 150, 191, 192, 194, 256}) {  // few codes: many ties
        for (const int least : {0, 185}) {
          std::vector<uint8_t> code;
          std::vector<float> e;  // 1 at the threshold, an edge of every code
          for (int64_t j = 0; j < keys; ++j) {
            const auto span = static_cast<uint64_t>(std::max(1, most - least));
            code.push_back(static_cast<uint8_t>(std::min(255, least + int(engine() % span))));
            e.push_back(code.back() == 255
                            ? kInf
                            : std::exp2(static_cast<float>(code.back() - 192) / 16) * 1.01f);
          }
          const auto size = static_cast<size_t>(kernels::bitmap_words(keys));
          std::vector<uint64_t> words(size + 1, 0xabcdefabcdefabcdULL), want = words;
          int64_t selected = select_keys(backend, code.data(), keys, words.data());
          INFO("keys " << keys << " codes " << least << " to " << most);
          CHECK(selected == select_keys(backend, e.data(), keys, 1.0f, want.data()));
          CHECK(words == want);
          uint32_t counts[kRaises + 1], want_counts[kRaises + 1];
          count_raises(code.data(), std::span(words).first(size), counts);
          count_raises(e.data(), 1.0f, std::span(want).first(size), want_counts);
          for (int i = 0; i <= kRaises; ++i) CHECK(counts[i] == want_counts[i]);
          for (int i = 0; i <= kRaises; ++i) {
            std::vector<uint64_t> raised_words(size);
            const int64_t kept =
                select_keys(backend, e.data(), keys, raised(1.0f, i), raised_words.data());
            CHECK(tiles_after(counts, i) == tiles_for(kept));
          }
          const int64_t filled = fill_tile(backend, code.data(), keys, selected, words.data());
          CHECK(filled == fill_tile(backend, e.data(), keys, selected, want.data()));
          CHECK(words == want);
        }
      }
    }
  });
}

TEST_CASE("a row block runs dense where gathering its keys would take longer", "[cpu]") {
  const uint64_t runs[] = {~uint64_t{0}, 0xffffffffULL, 0, 0};      // 96 keys in runs
  const uint64_t single[] = {0x5555555555555555ULL, 0x1ULL, 0, 0};  // 33 alone
  CHECK(!faster_dense(runs, 256, 100));
  CHECK(faster_dense(std::span(runs).first(2), 96, 1));
  CHECK(!faster_dense(single, 256, 7));
  CHECK(faster_dense(single, 256, 8));
  CHECK(!faster_dense(std::span(single).first(0), 1, 8));
}

TEST_CASE("a key is in one bin, and bins are ordered like estimates", "[cpu]") {
  const auto bin_of = [](float e) {
    std::vector<uint32_t> bins(kHistogramBins, 99);
    count_bins(&e, 1, bins.data());
    int found = -1;
    for (int b = 0; b < kHistogramBins; ++b) {
      if (bins[static_cast<size_t>(b)] == 0) continue;
      CHECK(bins[static_cast<size_t>(b)] == 1);
      CHECK(found == -1);
      found = b;
    }
    return found;
  };
  CHECK(bin_of(0) == 0);
  CHECK(bin_of(1e-38f) == 0);
  CHECK(bin_of(1e-45f) == 0);  // denormal
  CHECK(bin_of(kInf) == kHistogramBins - 1);
  CHECK(bin_of(std::numeric_limits<float>::max()) == kHistogramBins - 1);
  int previous = 0;
  for (float e = 1e-12f; e < 1e12f; e *= 1.03f) {
    const int bin = bin_of(e);
    CHECK(bin >= previous);
    // Within the range a bin is an eighth of a binade: at most 12.5 % wide.
    if (e > 0x1p-32f && e < 0x1p31f) CHECK(bin_of(e * 1.126f) > bin);
    previous = bin;
  }
  uint32_t bins[kHistogramBins];
  count_bins(nullptr, 0, bins);
  for (uint32_t count : bins) CHECK(count == 0);
}

// Row blocks of estimates over many octaves, some forced, with their histogram.
struct Estimates {
  std::vector<std::vector<float>> rows;
  std::vector<uint32_t> bins;
  Estimates(uint64_t seed, size_t blocks, bool forced) {
    std::mt19937_64 engine(seed);
    bins.resize(blocks * kHistogramBins);
    for (size_t m = 0; m < blocks; ++m) {
      auto& row = rows.emplace_back();
      const size_t keys = 1 + engine() % 700;
      for (size_t j = 0; j < keys; ++j) {
        const double u = uniform(engine);
        row.push_back(forced && u < 0.05 ? kInf
                      : u < 0.1          ? 0.0f
                                         : static_cast<float>(std::exp(20 * (u - 0.7))));
      }
      count_bins(row.data(), static_cast<int64_t>(row.size()), bins.data() + m * kHistogramBins);
    }
  }
  // Tiles that a selection executes: keys that fulfil the condition, 64 to a tile.
  template <class Keep>
  [[nodiscard]] int64_t tiles(Keep keep) const {
    int64_t total = 0;
    for (const auto& row : rows) {
      int64_t keys = 0;
      for (float e : row) keys += keep(e) ? 1 : 0;
      total += (keys + 63) / 64;
    }
    return total;
  }
};

TEST_CASE("lambda_for_tiles spends the budget and no more", "[cpu]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const bool with_forced = seed % 2 == 0;
    const Estimates estimates(seed, 1 + seed % 13, with_forced);
    const int64_t all = estimates.tiles([](float) { return true; });
    const int64_t forced = estimates.tiles([](float e) { return std::isinf(e); });
    float previous = kInf;
    for (int64_t budget = 0; budget <= all + 1; ++budget) {
      const float lambda = lambda_for_tiles(estimates.bins, budget);
      const int64_t spent = estimates.tiles([&](float e) { return e > lambda; });
      INFO("seed " << seed << " budget " << budget << " of " << all << ", forced " << forced
                   << ", lambda " << lambda);
      if (budget >= forced) {
        CHECK(spent <= budget);
      } else {
        CHECK(spent == forced);
      }
      CHECK(lambda <= previous);  // more budget, lower threshold
      previous = lambda;
      if (std::max(budget, forced) >= all) {
        CHECK(spent == all);
      } else {
        // The next lower edge: an eighth of an octave of the mantissa.
        const float edge = std::nextafter(lambda, kInf);
        const float lower = std::bit_cast<float>(std::bit_cast<uint32_t>(edge) - (1U << 20));
        const bool lowest = lower <= 0x1p-32f;  // whose bin holds all that is smaller, and 0
        CHECK(estimates.tiles([&](float e) { return lowest || e >= lower; }) >
              std::max(budget, forced));
      }
    }
  }
}

TEST_CASE("a per-length value is exact where calibrated and geometric between", "[cpu]") {
  const PerLength values = {{1024, 0.08}, {4096, 0.02}, {32768, 0.005}};
  CHECK(value_at(values, 1024) == 0.08);
  CHECK(value_at(values, 4096) == 0.02);
  CHECK(value_at(values, 32768) == 0.005);
  CHECK(value_at(values, 2048) == Approx(0.04));  // half way in log N and in log value
  CHECK(value_at(values, 4096 * 2) == Approx(0.02 / std::cbrt(4.0)));
  CHECK(value_at(values, 1) == 0.08);
  CHECK(value_at(values, 1023) == 0.08);
  CHECK(value_at(values, 1 << 20) == 0.005);
  double previous = INFINITY;
  for (int64_t n = 512; n <= 65536; n += 97) {
    const double value = value_at(values, n);
    CHECK(value <= previous);
    CHECK(value >= 0.005);
    previous = value;
  }
  CHECK(value_at({{0, 0.3}}, 5) == 0.3);  // once for all lengths
  CHECK(value_at({{0, 0.3}}, 1 << 20) == 0.3);
  // A value of zero has no logarithm: straight in log N.
  CHECK(value_at({{1024, 0}, {4096, 100}}, 2048) == Approx(50));
}

TEST_CASE("resolve_head makes an entry concrete for a length", "[cpu]") {
  HeadConfig::Kernel kernel;
  kernel.last = 17;
  const auto resolve = [&](const HeadEntry& entry, int64_t length) {
    const auto resolved = resolve_head(entry, kernel, length);
    REQUIRE(resolved);
    return *resolved;
  };
  HeadEntry entry;
  entry.pattern = Pattern::stripe;
  entry.sink = 3;
  entry.local = {{0, 128}};
  entry.density = {{4096, 0.02}, {16384, 0.005}};
  entry.share = {{4096, 0.2}, {16384, 0.1}};
  ResolvedHead head = resolve(entry, 8192);
  CHECK(head.params.pattern == Pattern::stripe);
  CHECK(head.params.sink == 3);
  CHECK(head.params.local == 128);
  CHECK(head.params.last == 17);
  CHECK(!head.params.counts);
  CHECK(head.lambda == Approx(0.01f));
  CHECK(*head.share == Approx(0.2 / std::sqrt(2.0)));
  CHECK(!head.spend_share);
  CHECK(!head.beyond_range);
  // At the calibrated lengths the very floats that were scored.
  CHECK(resolve(entry, 4096).lambda == static_cast<float>(0.02));
  CHECK(resolve(entry, 16384).lambda == static_cast<float>(0.005));
  CHECK(*resolve(entry, 16384).share == 0.1);
  for (const auto& [length, share] :
       {std::pair<int64_t, double>{100, 0.2}, {4095, 0.2}, {16385, 0.1}, {1 << 20, 0.1}}) {
    head = resolve(entry, length);
    INFO("length " << length);
    CHECK(head.beyond_range);
    CHECK(head.spend_share);
    CHECK(*head.share == share);
  }

  entry.share.clear();  // no share to keep: the nearest threshold
  head = resolve(entry, 100000);
  CHECK(head.beyond_range);
  CHECK(!head.spend_share);
  CHECK(head.lambda == static_cast<float>(0.005));

  entry.density.clear();
  entry.share = {{0, 0.25}};
  head = resolve(entry, 777);
  CHECK(head.spend_share);
  CHECK(!head.beyond_range);

  HeadEntry counts;
  counts.pattern = Pattern::vertical_slash;
  counts.vertical = {{1000, 100}, {4000, 400}};
  counts.slash = {{0, 800}};
  head = resolve(counts, 2000);
  CHECK(head.params.counts);
  CHECK(head.params.vertical == 200);
  CHECK(head.params.slash == 800);
  CHECK(head.lambda == 1);

  HeadEntry blocks;
  blocks.pattern = Pattern::block_sparse;
  blocks.blocks = {{0, 8}};
  head = resolve(blocks, 2000);
  CHECK(head.params.counts);
  CHECK(1.0f / 7.5f > head.lambda);  // ranks 0 .. 7 count 1/(rank + 1/2)
  CHECK(!(1.0f / 8.5f > head.lambda));

  HeadEntry window;
  window.pattern = Pattern::a_shape;
  window.sink = 4;
  window.local = {{1000, 100}, {4000, 200}};
  head = resolve(window, 1000);
  CHECK(head.params.local == 0);
  CHECK(1.0f / 99.5f > head.lambda);
  CHECK(!(1.0f / 100.5f > head.lambda));
  window.local = {{0, 0}};
  CHECK(resolve_head(window, kernel, 1000).error().what.find("a_shape") != std::string::npos);

  CHECK(!resolve({}, 5).spend_share);  // dense needs nothing

  HeadEntry by_block;
  by_block.pattern = Pattern::block_sparse;
  by_block.estimate = BlockEstimate::antidiagonal;
  by_block.density = {{0, 1}};
  for (const int stride : {0, 7, 128}) {
    by_block.stride = stride;
    CHECK(resolve_head(by_block, kernel, 1000).error().what.find("stride") != std::string::npos);
  }
  by_block.stride = 8;
  CHECK(resolve_head(by_block, kernel, 1000));
  by_block.density.clear();
  by_block.blocks = {{0, 0}};
  CHECK(resolve_head(by_block, kernel, 1000).error().what.find("blocks") != std::string::npos);
}

}  // namespace
}  // namespace mi::runtime
