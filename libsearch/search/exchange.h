// An allocation from the prices of its limits: each head takes what is cheapest at these prices,
// heads step back until the limits hold, and pairs of heads exchange what is left over. Then the
// same from where simulated annealing ends, a few times, and the best of all.
#pragma once

#include <vector>

#include "libsearch/search/dual.h"

namespace mi::search {

// chosen[length][head]
using Assignment = std::vector<std::vector<size_t>>;

// `feasible` keeps the limits; so does the result, whose loss is no greater.
[[nodiscard]] Assignment exchange(const Knapsack& knapsack, const Prices& prices,
                                  const Assignment& feasible);

}  // namespace mi::search
