// One candidate per head under a limit on cost: a multiple-choice knapsack with a limit for every
// sample, each of which must keep it by itself. Every sample gets a price (dual.h); heads take what
// is best at these prices and exchange what is left over (exchange.h). The prices also say how far
// from the optimum the result is at most: 6e-4 of the loss for SmolLM2's 270 heads at 15 %, in 1 s.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

// A candidate as an allocation sees it, at one prompt length.
struct Choice {
  std::vector<double> cost;  // [samples of the length] share of dense: of its work or its time
  double loss = 0;
  double recall_p05 = 1;
  [[nodiscard]] double dearest() const { return *std::max_element(cost.begin(), cost.end()); }
  [[nodiscard]] double mean() const {
    return std::accumulate(cost.begin(), cost.end(), 0.0) / static_cast<double>(cost.size());
  }
};

// choices[length][head][candidate]; families[candidate] groups candidates: a head takes candidates
// of one family at every length.
struct AllocationProblem {
  std::vector<std::vector<std::vector<Choice>>> choices;
  std::vector<size_t> families;  // [candidate]
  // Where costs are times: milliseconds of a dense prefill, all layers, lengths rising. A limit is
  // then a share of the longest one's, and the same milliseconds at every length.
  std::vector<double> dense_ms;  // [length]; empty: costs are work
  [[nodiscard]] size_t lengths() const { return choices.size(); }
  [[nodiscard]] size_t heads() const { return choices.empty() ? 0 : choices[0].size(); }
  [[nodiscard]] size_t samples(size_t length) const { return choices[length][0][0].cost.size(); }
  // What a limit allows at a length, as a multiple of it.
  [[nodiscard]] double allowance(size_t length) const {
    return dense_ms.empty() ? 1 : dense_ms.back() / dense_ms[length];
  }
};

// Cost of one candidate per head at a length: mean over heads, of the sample that pays most.
[[nodiscard]] double dearest_cost(const AllocationProblem& problem, size_t length,
                                  std::span<const size_t> chosen);

struct Allocation {
  std::vector<std::vector<size_t>> chosen;  // [length][head] candidate
  std::vector<double> cost;                 // [length] dearest_cost
  double loss = 0;                          // sum over heads, mean over lengths
  double gap = 0;                           // loss minus a lower bound on the optimum
};

// Whether a cost keeps a limit, both shares of dense; sums of costs may be off in the last digits.
[[nodiscard]] bool within(double cost, double limit);
// A cost in percent with three decimals, rounded up: given as a budget, it is enough.
[[nodiscard]] std::string percent_enough(double cost);
// The same of a limit of the problem, "15.2%" or "118.203ms".
[[nodiscard]] std::string budget_enough(const AllocationProblem& problem, double limit);
[[nodiscard]] std::string budget_text(const AllocationProblem& problem, double limit);

// Least loss with mean cost over heads at most `limit` on every sample, of the candidates that cost
// no sample more than dense attention, which is one of them. Errors: a limit below the
// cheapest assignment, naming the smallest feasible one.
[[nodiscard]] Result<Allocation> allocate_global(const AllocationProblem& problem, double limit);
// Every head by itself within the limit on every sample, as in the published method.
[[nodiscard]] Result<Allocation> allocate_per_head(const AllocationProblem& problem, double limit);
// Least cost, mean over samples, with recall_p05 >= min_recall in every head at every length.
[[nodiscard]] Allocation allocate_min_recall(const AllocationProblem& problem, double min_recall);
// The smallest limit for which these have an allocation.
[[nodiscard]] double least_limit_global(const AllocationProblem& problem);
[[nodiscard]] double least_limit_per_head(const AllocationProblem& problem);
// The smallest limit that an allocation keeps.
[[nodiscard]] double least_limit(const AllocationProblem& problem, const Allocation& allocation);

}  // namespace mi::search
