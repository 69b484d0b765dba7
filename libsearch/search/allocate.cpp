#include "libsearch/search/allocate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "libsearch/search/dual.h"
#include "libsearch/search/exchange.h"

namespace mi::search {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-12;  // of sums of costs
constexpr int kRounds = 64;

Failure infeasible(const AllocationProblem& problem, double limit, double smallest) {
  return fail(Code::invalid_argument,
              fmt::format("budget: {} is below the cheapest assignment of these candidates; the "
                          "smallest feasible budget is {}",
                          budget_text(problem, limit), budget_enough(problem, smallest)));
}

}  // namespace

bool within(double cost, double limit) {
  return cost <= limit * (1 + kRounding);
}

std::string percent_enough(double cost) {
  return fmt::format("{:g}", std::ceil(cost * (1 - kRounding) * 1e5) / 1e3);
}

std::string budget_enough(const AllocationProblem& problem, double limit) {
  if (problem.dense_ms.empty()) return percent_enough(limit) + "%";
  const double ms = limit * problem.dense_ms.back();
  return fmt::format("{:.3f}ms", std::ceil(ms * (1 - kRounding) * 1e3) / 1e3);
}

std::string budget_text(const AllocationProblem& problem, double limit) {
  return problem.dense_ms.empty() ? fmt::format("{:.4g}%", 100 * limit)
                                  : fmt::format("{:.4g}ms", limit * problem.dense_ms.back());
}

double least_limit(const AllocationProblem& problem, const Allocation& allocation) {
  double limit = 0;
  for (size_t t = 0; t < problem.lengths(); ++t)
    limit = std::max(limit, allocation.cost[t] / problem.allowance(t));
  return limit;
}

namespace {

// Mean over heads.
std::vector<double> sample_costs(const AllocationProblem& problem, size_t length,
                                 std::span<const size_t> chosen) {
  std::vector<double> sums(problem.samples(length), 0);
  for (size_t h = 0; h < chosen.size(); ++h) {
    const auto& cost = problem.choices[length][h][chosen[h]].cost;
    for (size_t s = 0; s < sums.size(); ++s)
      sums[s] += cost[s] / static_cast<double>(chosen.size());
  }
  return sums;
}

}  // namespace

double dearest_cost(const AllocationProblem& problem, size_t length,
                    std::span<const size_t> chosen) {
  const auto costs = sample_costs(problem, length, chosen);
  return *std::max_element(costs.begin(), costs.end());
}

namespace {

// For every head the family with the least total `value` over lengths, each length taking the
// least `value` among its admissible candidates; infinity where there is none.
template <class Value>
Allocation pick_each_head(const AllocationProblem& problem, Value value) {
  Allocation allocation;
  allocation.chosen.resize(problem.lengths());
  const auto members = group_by_family(problem);
  const auto lengths = static_cast<double>(problem.lengths());
  for (size_t h = 0; h < problem.heads(); ++h) {
    double best_total = kInfinity;
    std::vector<size_t> best;
    for (const auto& family : members) {
      double total = 0;
      std::vector<size_t> picks;
      for (size_t t = 0; t < problem.lengths(); ++t) {
        double least = kInfinity;
        size_t pick = 0;
        for (size_t c : family) {
          const double v = value(problem.choices[t][h][c], t);
          if (v < least) {
            least = v;
            pick = c;
          }
        }
        total += least;
        picks.push_back(pick);
      }
      if (total < best_total) {
        best_total = total;
        best = std::move(picks);
      }
    }
    if (best.empty()) return {};
    for (size_t t = 0; t < problem.lengths(); ++t) {
      const Choice& choice = problem.choices[t][h][best[t]];
      allocation.chosen[t].push_back(best[t]);
      allocation.loss += choice.loss / lengths;
    }
  }
  for (size_t t = 0; t < problem.lengths(); ++t)
    allocation.cost.push_back(dearest_cost(problem, t, allocation.chosen[t]));
  return allocation;
}

// What the dearest sample costs least, found in rounds: each head takes what is cheapest with the
// samples weighted by their votes, and the sample that pays most gets one vote more.
Allocation cheapest(const AllocationProblem& problem) {
  std::vector<std::vector<double>> votes;
  for (size_t t = 0; t < problem.lengths(); ++t) votes.emplace_back(problem.samples(t), 1);
  Allocation best;
  double least = kInfinity;
  for (int round = 0; round < kRounds; ++round) {
    Allocation found = pick_each_head(problem, [&](const Choice& choice, size_t t) {
      if (beyond_dense(choice)) return kInfinity;
      double price = 0;
      for (size_t s = 0; s < votes[t].size(); ++s) price += votes[t][s] * choice.cost[s];
      return price / problem.allowance(t);
    });
    double most = 0;
    double* dearest = nullptr;
    for (size_t t = 0; t < problem.lengths(); ++t) {
      const auto costs = sample_costs(problem, t, found.chosen[t]);
      for (size_t s = 0; s < costs.size(); ++s) {
        if (costs[s] / problem.allowance(t) <= most) continue;
        most = costs[s] / problem.allowance(t);
        dearest = &votes[t][s];
      }
    }
    if (most < least) {
      least = most;
      best = std::move(found);
    }
    if (dearest == nullptr) break;  // nothing costs anything
    *dearest += 1;
  }
  return best;
}

}  // namespace

Result<Allocation> allocate_global(const AllocationProblem& problem, double limit) {
  const Allocation start = cheapest(problem);
  const double smallest = least_limit(problem, start);
  if (!within(smallest, limit)) return infeasible(problem, limit, smallest);
  const Knapsack knapsack(problem, limit);
  const Prices prices = best_prices(knapsack, start.loss);
  Allocation allocation;
  allocation.chosen = exchange(knapsack, prices, start.chosen);
  for (size_t t = 0; t < problem.lengths(); ++t) {
    allocation.cost.push_back(dearest_cost(problem, t, allocation.chosen[t]));
    for (size_t h = 0; h < problem.heads(); ++h)
      allocation.loss += knapsack.loss_of(t, h, allocation.chosen[t][h]);
  }
  allocation.gap = std::max(0.0, allocation.loss - prices.bound);
  return allocation;
}

Result<Allocation> allocate_per_head(const AllocationProblem& problem, double limit) {
  Allocation allocation = pick_each_head(problem, [&](const Choice& choice, size_t t) {
    return within(choice.dearest(), limit * problem.allowance(t)) ? choice.loss : kInfinity;
  });
  if (!allocation.chosen.empty()) return allocation;
  return infeasible(problem, limit, least_limit_per_head(problem));
}

double least_limit_global(const AllocationProblem& problem) {
  return least_limit(problem, cheapest(problem));
}

// Every head meets it with one family at all lengths.
double least_limit_per_head(const AllocationProblem& problem) {
  double smallest = 0;
  const auto members = group_by_family(problem);
  for (size_t h = 0; h < problem.heads(); ++h) {
    double head = kInfinity;
    for (const auto& family : members) {
      double dearest = 0;
      for (size_t t = 0; t < problem.lengths(); ++t) {
        double least = kInfinity;
        for (size_t c : family) least = std::min(least, problem.choices[t][h][c].dearest());
        dearest = std::max(dearest, least / problem.allowance(t));
      }
      head = std::min(head, dearest);
    }
    smallest = std::max(smallest, head);
  }
  return smallest;
}

Allocation allocate_min_recall(const AllocationProblem& problem, double min_recall) {
  return pick_each_head(problem, [&](const Choice& choice, size_t) {
    return choice.recall_p05 >= min_recall ? choice.mean() : kInfinity;
  });
}

}  // namespace mi::search
