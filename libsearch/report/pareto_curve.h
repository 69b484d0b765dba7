// What every budget gives: the best head-config of each from the same scores.
#pragma once

#include <array>
#include <vector>

#include "libsearch/search/search.h"

namespace mi::search {

struct ParetoPoint {
  double limit = 0;
  double executed = 0;  // of the length that comes closest to the limit
  double loss = 0;
  double recall_mean = 0, recall_p05 = 0, recall_min = 0;
};

inline constexpr std::array kParetoLimits = {0.05, 0.075, 0.1, 0.125, 0.15,
                                             0.2,  0.25,  0.3, 0.4,   0.5};
// One of these limits after the other; those that no allocation keeps are left out. The report must
// be complete.
[[nodiscard]] Result<std::vector<ParetoPoint>> pareto_curve(const ScoreReport& report,
                                                            SearchOptions options);
// The same limits by the published method's rule: every head by itself takes the one of A-shape,
// vertical-slash and block-sparse that keeps most mass within the limit. Of the report's
// candidates, so with its dense last rows and thresholds instead of counts; `loss` is the
// objective's.
[[nodiscard]] std::vector<ParetoPoint> published_curve(const ScoreReport& report,
                                                       Objective objective);
// The smallest limit that an allocation keeps.
[[nodiscard]] double least_budget(const ScoreReport& report, const SearchOptions& options);

// Executed share of dense of the calibrated length that executes most; 0 where none was measured.
[[nodiscard]] double dearest_share(const runtime::HeadConfig& config);

// What the config's making minimised; one of the least cost for a recall stands beside the default.
[[nodiscard]] Objective objective_of(const runtime::HeadConfig& config);

}  // namespace mi::search
