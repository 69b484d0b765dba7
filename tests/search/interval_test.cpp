#include "libsearch/eval/interval.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <random>
#include <vector>

#include "tests/support.h"

namespace mi::search {
namespace {

constexpr int kTrials = 4000;

TEST_CASE("a paired interval of proportions as published") {
  // Newcombe, Statistics in Medicine 17 (1998) 2635, table II, method 10: 36, 12, 2 and 0 pairs.
  const Interval interval = paired_proportions({36, 2, 12, 0});
  CHECK(interval.value == Approx(0.2));
  CHECK(interval.low == Approx(0.0569).margin(5e-5));
  CHECK(interval.high == Approx(0.3404).margin(5e-5));
}

TEST_CASE("Student's quantiles as in every table") {
  const std::vector<std::pair<int64_t, double>> table = {
      {1, 12.706}, {2, 4.303},  {3, 3.182},   {4, 2.776},    {5, 2.571},     {10, 2.228},
      {29, 2.045}, {30, 2.042}, {120, 1.980}, {5000, 1.960}, {100000, 1.960}};
  for (const auto& [degrees, t] : table) CHECK(t_quantile(degrees) == Approx(t).margin(6e-4));
}

TEST_CASE("a paired interval of proportions holds its value and mirrors its contestants") {
  for (int64_t both = 0; both <= 12; both += 3)
    for (int64_t first = 0; first <= 12; first += 2)
      for (int64_t second = 0; second <= 12; second += 3)
        for (int64_t neither = 0; neither <= 12; neither += 4) {
          const PairedCounts counts{both, first, second, neither};
          if (counts.total() == 0) continue;
          const Interval interval = paired_proportions(counts);
          const Interval mirrored = paired_proportions({both, second, first, neither});
          INFO(both << " " << first << " " << second << " " << neither);
          CHECK(interval.low <= interval.value);
          CHECK(interval.value <= interval.high);
          CHECK(interval.low >= -1 - 1e-12);
          CHECK(interval.high <= 1 + 1e-12);
          CHECK(interval.low == Approx(-mirrored.high).margin(1e-12));
          CHECK(interval.value == -mirrored.value);
          if (first == 0 && second == 0) CHECK(interval.value == 0);
          // Ten times the questions say more.
          const Interval more =
              paired_proportions({10 * both, 10 * first, 10 * second, 10 * neither});
          CHECK(more.high - more.low < interval.high - interval.low);
        }
}

TEST_CASE("agreement on thirty questions does not rule out a loss of some percent") {
  const Interval interval = paired_proportions({30, 0, 0, 0});
  CHECK(interval.value == 0);
  CHECK(interval.low < -0.05);
  CHECK(interval.low > -0.15);
}

TEST_CASE("a paired interval of proportions covers the truth") {
  struct Truth {
    double both, first, second;  // the rest is neither
  };
  const auto truth = GENERATE(values<Truth>({{0.9, 0.05, 0.01},
                                             {0.6, 0.2, 0.1},
                                             {0.95, 0.03, 0.0},
                                             {0.4, 0.1, 0.1},
                                             {0.25, 0.25, 0.25}}));
  const auto n = GENERATE(30, 100);
  std::mt19937_64 engine(7);
  int covered = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    PairedCounts counts;
    for (int i = 0; i < n; ++i) {
      const double u = static_cast<double>(engine() >> 11) * 0x1p-53;
      if (u < truth.both)
        ++counts.both;
      else if (u < truth.both + truth.first)
        ++counts.first;
      else if (u < truth.both + truth.first + truth.second)
        ++counts.second;
      else
        ++counts.neither;
    }
    const Interval interval = paired_proportions(counts);
    const double difference = truth.second - truth.first;
    covered += interval.low <= difference && difference <= interval.high ? 1 : 0;
  }
  // The worst that Newcombe reports for this method over his parameter space is 0.926.
  INFO(truth.both << " " << truth.first << " " << truth.second << " n " << n);
  CHECK(covered >= 0.93 * kTrials);
}

TEST_CASE("an interval of a mean covers the truth nineteen times in twenty") {
  for (const size_t n : {2, 3, 8, 40}) {
    int covered = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      auto values = test::random_normal(n, static_cast<uint64_t>(trial) * 100 + n);
      std::vector<double> differences;
      for (const float value : values) differences.push_back(0.3 + static_cast<double>(value));
      const Interval interval = paired_mean(differences);
      CHECK(interval.low <= interval.value);
      CHECK(interval.value <= interval.high);
      covered += interval.low <= 0.3 && 0.3 <= interval.high ? 1 : 0;
    }
    INFO(n);
    // Three standard errors of a share of 0.95.
    CHECK(std::abs(covered / static_cast<double>(kTrials) - 0.95) < 0.0104);
  }
}

TEST_CASE("one difference has a mean and no bounds, equal ones have no width") {
  const Interval one = paired_mean(std::vector<double>{0.25});
  CHECK(one.value == 0.25);
  CHECK(std::isinf(one.low));
  CHECK(std::isinf(one.high));
  const Interval equal = paired_mean(std::vector<double>(5, 0.0));
  CHECK(equal.low == 0);
  CHECK(equal.high == 0);
}

}  // namespace
}  // namespace mi::search
