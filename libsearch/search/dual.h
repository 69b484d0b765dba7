// Prices of the samples' limits: the dual of an allocation. Whoever pays a price for what it costs
// each sample, instead of keeping the limits, takes for each head the cheapest candidate by itself;
// the loss he gets, less what the limits are worth, is below that of any allocation that keeps
// them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "libsearch/search/allocate.h"

namespace mi::search {

// [family] its candidates
[[nodiscard]] std::vector<std::vector<size_t>> group_by_family(const AllocationProblem& problem);

// Whether a candidate costs more than dense attention on some sample: an estimate on top of nearly
// all keys. No share cap allows that, and dense attention loses nothing.
[[nodiscard]] bool beyond_dense(const Choice& choice);

// An allocation problem under a limit, as flat arrays. A row is one sample of one length; its costs
// are parts of what the limit allows there, so that a row's costs may add up to 1.
struct Knapsack {
  size_t heads = 0;
  size_t candidates = 0;
  std::vector<std::vector<size_t>> families;  // [family] its candidates
  std::vector<size_t> row_begin;              // [lengths + 1]
  // [length][heads * candidates (* samples of the length)]
  std::vector<std::vector<double>> loss;  // part of the total; infinite beyond dense
  std::vector<std::vector<double>> cost;

  Knapsack(const AllocationProblem& problem, double limit);
  [[nodiscard]] size_t lengths() const { return loss.size(); }
  [[nodiscard]] size_t rows() const { return row_begin.back(); }
  [[nodiscard]] double loss_of(size_t length, size_t head, size_t candidate) const {
    return loss[length][head * candidates + candidate];
  }
  [[nodiscard]] std::span<const double> costs_of(size_t length, size_t head,
                                                 size_t candidate) const {
    const size_t samples = row_begin[length + 1] - row_begin[length];
    return std::span(cost[length]).subspan((head * candidates + candidate) * samples, samples);
  }
  // Loss and price of what a candidate costs.
  [[nodiscard]] double value(size_t length, size_t head, size_t candidate,
                             std::span<const double> prices) const {
    double sum = loss_of(length, head, candidate);
    const auto costs = costs_of(length, head, candidate);
    for (size_t s = 0; s < costs.size(); ++s) sum += prices[row_begin[length] + s] * costs[s];
    return sum;
  }
};

// The lower bound that these prices give; prices are not negative.
[[nodiscard]] double lower_bound(const Knapsack& knapsack, std::span<const double> prices);

struct Prices {
  std::vector<double> of_rows;
  double bound = 0;
};
// Prices whose bound is the greatest but for a part of 1e-5. `loss`, of some allocation that keeps
// the limits, sets the scale to begin with.
[[nodiscard]] Prices best_prices(const Knapsack& knapsack, double loss);

}  // namespace mi::search
