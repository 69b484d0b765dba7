// One candidate per head under a limit on cost: a multiple-choice knapsack, solved by a walk along
// the merged lower convex hulls of the heads' (cost, loss) points. The walk is the whole Pareto
// curve; its distance from the optimum is at most one segment per length.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

// A candidate as an allocation sees it, at one prompt length.
struct Choice {
  double cost = 0;  // share of dense
  double loss = 0;
  double recall_p05 = 1;
};

// choices[length][head][candidate]; families[candidate] groups candidates: a head takes candidates
// of one family at every length.
struct AllocationProblem {
  std::vector<std::vector<std::vector<Choice>>> choices;
  std::vector<size_t> families;  // [candidate]
  [[nodiscard]] size_t lengths() const { return choices.size(); }
  [[nodiscard]] size_t heads() const { return choices.empty() ? 0 : choices[0].size(); }
};

struct Allocation {
  std::vector<std::vector<size_t>> chosen;  // [length][head] candidate
  std::vector<double> cost;                 // [length] mean over heads
  double loss = 0;                          // sum over heads, mean over lengths
  double gap = 0;                           // loss minus a lower bound on the optimum
};

struct ParetoPoint {
  double cost = 0;
  double loss = 0;
};

// Whether a cost keeps a limit, both shares of dense; sums of costs may be off in the last digits.
[[nodiscard]] bool within(double cost, double limit);
// A cost in percent with three decimals, rounded up: given as a budget, it is enough.
[[nodiscard]] std::string percent_enough(double cost);

// Least loss with mean cost over heads at most `limit` at every length. Errors: a limit below the
// cheapest assignment, naming the smallest feasible one.
[[nodiscard]] Result<Allocation> allocate_global(const AllocationProblem& problem, double limit);
// Every head by itself within the limit, as in the published method.
[[nodiscard]] Result<Allocation> allocate_per_head(const AllocationProblem& problem, double limit);
// Least cost with recall_p05 >= min_recall in every head at every length.
[[nodiscard]] Allocation allocate_min_recall(const AllocationProblem& problem, double min_recall);

// The Pareto curve of one length from one walk, costs rising.
[[nodiscard]] std::vector<ParetoPoint> pareto_curve(const AllocationProblem& problem,
                                                    size_t length);

}  // namespace mi::search
