#include "libsearch/search/allocate.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "tests/support.h"

namespace mi::search {
namespace {

double uniform(std::mt19937_64& engine) {
  return static_cast<double>(engine() >> 11) * 0x1p-53;
}

// Candidates of `families` families with falling loss, plus dense, which costs 1 and loses nothing.
// A head's samples pay up to half more or less than one another, and by `noise` of that differently
// from candidate to candidate.
AllocationProblem random_problem(uint64_t seed, size_t lengths, size_t heads, size_t families,
                                 size_t levels, size_t samples, double noise = 0.5) {
  std::mt19937_64 engine(seed);
  AllocationProblem problem;
  for (size_t f = 0; f < families; ++f)
    for (size_t l = 0; l < levels; ++l) problem.families.push_back(f);
  problem.families.push_back(families);
  problem.choices.resize(lengths);
  for (auto& length : problem.choices) {
    for (size_t h = 0; h < heads; ++h) {
      auto& choices = length.emplace_back();
      for (size_t f = 0; f < families; ++f) {
        double cost = 0.01 + 0.05 * uniform(engine);
        double loss = uniform(engine);
        std::vector<double> factor;
        for (size_t s = 0; s < samples; ++s) factor.push_back(0.75 + 0.5 * uniform(engine));
        for (size_t l = 0; l < levels; ++l) {
          Choice& choice = choices.emplace_back();
          for (size_t s = 0; s < samples; ++s)
            choice.cost.push_back(
                std::min(1.0, cost * factor[s] * (1 + noise * (uniform(engine) - 0.5))));
          choice.loss = loss;
          choice.recall_p05 = 1 - loss;
          const double step = std::min(1.0, 6 / static_cast<double>(levels));
          cost += 0.2 * step * uniform(engine);
          loss *= std::pow(uniform(engine), step);
        }
      }
      choices.push_back({std::vector<double>(samples, 1.0), 0, 1});
    }
  }
  return problem;
}

// Least loss over all assignments of one family per head and any of its candidates per length.
double brute_force(const AllocationProblem& problem, double limit) {
  const auto heads = static_cast<double>(problem.heads());
  double best = INFINITY;
  std::vector<std::vector<double>> cost;  // [length][sample]
  for (size_t t = 0; t < problem.lengths(); ++t) cost.emplace_back(problem.samples(t), 0);
  const auto place = [&](auto&& self, size_t h, double loss) -> void {
    for (const auto& samples : cost)
      for (double c : samples)
        if (c > limit * heads * (1 + 1e-12)) return;
    if (h == problem.heads()) {
      best = std::min(best, loss);
      return;
    }
    const auto pick = [&](auto&& next, size_t t, size_t family, double so_far) -> void {
      if (t == problem.lengths()) {
        self(self, h + 1, so_far);
        return;
      }
      for (size_t c = 0; c < problem.families.size(); ++c) {
        if (problem.families[c] != family) continue;
        const Choice& choice = problem.choices[t][h][c];
        const auto before = cost[t];
        for (size_t s = 0; s < before.size(); ++s) cost[t][s] += choice.cost[s];
        next(next, t + 1, family, so_far + choice.loss / static_cast<double>(problem.lengths()));
        cost[t] = before;
      }
    };
    for (size_t family = 0; family <= problem.families.back(); ++family)
      pick(pick, 0, family, loss);
  };
  place(place, 0, 0);
  return best;
}

TEST_CASE("global allocation is within its stated gap of the optimum", "[cpu]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const size_t lengths = 1 + seed % 2;
    const auto problem = random_problem(seed, lengths, 3, 2, lengths == 1 ? 4 : 3, 1 + seed % 3);
    for (const double limit : {0.05, 0.1, 0.2, 0.4, 1.0}) {
      const auto allocation = allocate_global(problem, limit);
      const double optimum = brute_force(problem, limit);
      INFO("seed " << seed << " limit " << limit);
      if (!allocation) {
        // Where lengths share families or samples differ, the cheapest start is a heuristic.
        if (lengths == 1 && problem.samples(0) == 1) CHECK(std::isinf(optimum));
        continue;
      }
      for (size_t t = 0; t < lengths; ++t) {
        CHECK(allocation->cost[t] == dearest_cost(problem, t, allocation->chosen[t]));
        CHECK(allocation->cost[t] <= limit + 1e-12);
      }
      CHECK(allocation->loss >= optimum - 1e-12);
      CHECK(allocation->loss - allocation->gap <= optimum + 1e-12);
      if (limit == 1.0) CHECK(allocation->loss == 0);
    }
  }
}

TEST_CASE("with many heads the gap is below 1.5 thousandths of the loss", "[cpu]") {
  // As large as the default search: what does not divide evenly is one head's choice in 270.
  for (uint64_t seed = 1; seed <= (test::kSanitized ? 1 : 4); ++seed) {
    const auto problem = random_problem(seed, 1 + seed % 2, 270, 9, 25, 4);
    for (const double limit : {0.1, 0.15, 0.25}) {
      const auto allocation = allocate_global(problem, limit);
      REQUIRE(allocation);
      INFO("seed " << seed << " limit " << limit << " loss " << allocation->loss);
      CHECK(allocation->loss > 0);
      CHECK(allocation->gap <= 1.5e-3 * allocation->loss);
      for (size_t t = 0; t < problem.lengths(); ++t) CHECK(allocation->cost[t] <= limit + 1e-12);
    }
  }
}

TEST_CASE("a higher limit loses no more than the gap allows, and one family serves all lengths",
          "[cpu]") {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const auto problem = random_problem(seed, 1 + seed % 3, 12, 4, 6, 1 + seed % 4);
    double previous = INFINITY;
    for (double limit = 0.02; limit <= 1; limit += 0.03) {
      const auto allocation = allocate_global(problem, limit);
      if (!allocation) {
        CHECK(std::isinf(previous));
        continue;
      }
      CHECK(allocation->loss <= previous + allocation->gap + 1e-12);
      previous = allocation->loss;
      for (size_t h = 0; h < problem.heads(); ++h)
        for (size_t t = 1; t < problem.lengths(); ++t)
          CHECK(problem.families[allocation->chosen[t][h]] ==
                problem.families[allocation->chosen[0][h]]);
    }
    CHECK(allocate_global(problem, 1)->loss == Approx(0).margin(1e-12));  // everything dense
  }
}

TEST_CASE("no head costs a sample more than dense attention", "[cpu]") {
  // An estimate on top of nearly all keys, dear on one sample: the limit would allow it, and its
  // mean cost and loss are worth it, but no share cap would.
  AllocationProblem problem;
  problem.families = {0, 0, 1};
  problem.choices = {{{{{0.2, 0.2}, 1, 0}, {{1.05, 0.3}, 0.001, 1}, {{1, 1}, 0, 1}},
                      {{{0.2, 0.2}, 1, 0}, {{0.3, 0.3}, 0.5, 1}, {{1, 1}, 0, 1}}}};
  const auto allocation = allocate_global(problem, 0.7);
  REQUIRE(allocation);
  CHECK(allocation->chosen[0] == std::vector<size_t>{2, 1});
  CHECK(allocation->loss == Approx(0.5));
}

TEST_CASE("what saves nothing is not bought", "[cpu]") {
  AllocationProblem problem;
  problem.families = {0, 0, 1};
  problem.choices = {{{{{0.9}, 0, 1}, {{0.4}, 0, 1}, {{1}, 0, 1}}}};
  const auto allocation = allocate_global(problem, 1);
  REQUIRE(allocation);
  CHECK(allocation->chosen[0][0] == 1);
}

TEST_CASE("a limit holds for samples, not for each head's dearest sample", "[cpu]") {
  // Two heads, two samples: each head is dear on the other sample. Both may leave their cheapest
  // candidate within a limit that the sum of the heads' dearest samples breaks.
  AllocationProblem problem;
  problem.families = {0, 0};
  problem.choices = {
      {{{{0.1, 0.1}, 1, 0}, {{0.3, 0.1}, 0, 1}}, {{{0.1, 0.1}, 1, 0}, {{0.1, 0.3}, 0, 1}}}};
  const auto allocation = allocate_global(problem, 0.2);
  REQUIRE(allocation);
  CHECK(allocation->loss == Approx(0).margin(1e-12));
  CHECK(allocation->cost[0] == Approx(0.2));
  CHECK(allocation->gap == Approx(0).margin(1e-12));
}

TEST_CASE("a limit below the cheapest assignment names the smallest feasible one", "[cpu]") {
  const auto problem = random_problem(9, 1, 4, 2, 3, 1);
  double smallest = 0;
  for (const auto& head : problem.choices[0]) {
    double least = INFINITY;
    for (const Choice& choice : head) least = std::min(least, choice.cost[0]);
    smallest += least / 4;
  }
  const auto refused = allocate_global(problem, smallest * 0.9);
  REQUIRE(!refused);
  CHECK(refused.error().code == Code::invalid_argument);
  CHECK(refused.error().what.find("smallest feasible budget is " + percent_enough(smallest) +
                                  "%") != std::string::npos);
  CHECK(allocate_global(problem, std::ceil(smallest * 1e5) / 1e5));
  CHECK(!allocate_per_head(problem, 1e-4));
}

TEST_CASE("the smallest feasible limit of several samples and lengths is feasible", "[cpu]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const auto problem = random_problem(seed, 2, 12, 3, 4, 3);
    const auto refused = allocate_global(problem, 1e-4);
    REQUIRE(!refused);
    const std::string& what = refused.error().what;
    const std::string_view before = "smallest feasible budget is ";
    const double percent = std::stod(what.substr(what.find(before) + before.size()));
    CHECK(allocate_global(problem, percent / 100));
  }
}

TEST_CASE("per-head allocation holds the limit in every head", "[cpu]") {
  const auto problem = random_problem(11, 2, 10, 3, 5, 2);
  const auto allocation = allocate_per_head(problem, 0.2);
  REQUIRE(allocation);
  for (size_t t = 0; t < 2; ++t)
    for (size_t h = 0; h < 10; ++h)
      CHECK(problem.choices[t][h][allocation->chosen[t][h]].dearest() <= 0.2);
  const auto global = allocate_global(problem, 0.2);
  REQUIRE(global);
  CHECK(global->loss <= allocation->loss + global->gap);
}

TEST_CASE("min-recall allocation is the cheapest that keeps the recall", "[cpu]") {
  const auto problem = random_problem(13, 1, 10, 3, 5, 1);
  const auto allocation = allocate_min_recall(problem, 0.9);
  for (size_t h = 0; h < 10; ++h) {
    const auto& choices = problem.choices[0][h];
    const Choice& chosen = choices[allocation.chosen[0][h]];
    CHECK(chosen.recall_p05 >= 0.9);
    for (const Choice& other : choices)
      if (other.recall_p05 >= 0.9) CHECK(chosen.cost[0] <= other.cost[0]);
  }
}

}  // namespace
}  // namespace mi::search
