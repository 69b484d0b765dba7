// Our allocation beside the published method and the best single pattern, at equal cost and judged
// on held-out samples by the model's own output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libsearch/search/search.h"

namespace mi::search {

struct FrontierEntry {
  int64_t length = 0;
  double limit = 0;
  std::string method;
  // Empty: infeasible at this limit. Means over the held-out samples.
  std::optional<SampleVerdict> verdict;
};

// The published method (MInference 1.0's search): per head the candidate form with the best recall,
// all counts times one factor, the largest whose cost keeps the limit.
[[nodiscard]] std::optional<Allocation> allocate_published(const AllocationProblem& problem,
                                                           const CandidateSpace& space,
                                                           double limit);
// One pattern and parameter for all heads: the one that loses least mass within the limit.
[[nodiscard]] std::optional<Allocation> allocate_single(const AllocationProblem& problem,
                                                        double limit);

// All samples have one length. Ours is allocated for each objective given.
[[nodiscard]] Result<std::vector<FrontierEntry>> frontier(
    const Model& model, std::span<const Sample> calibration, std::span<const Sample> held_out,
    std::span<const double> limits, std::span<const Objective> objectives,
    const SearchOptions& options, const ProgressFn& progress);

}  // namespace mi::search
