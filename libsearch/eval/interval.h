// 95 % confidence intervals of a difference between two that were measured on the same questions or
// the same text. Nothing random.
#pragma once

#include <cstdint>
#include <span>

namespace mi::search {

struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
};

// Questions that two contestants answered, by who was right.
struct PairedCounts {
  int64_t both = 0;
  int64_t first = 0;   // the first only
  int64_t second = 0;  // the second only
  int64_t neither = 0;
  [[nodiscard]] int64_t total() const { return both + first + second + neither; }
};
// Share right of the second minus that of the first, by Newcombe's hybrid score interval
// (Statistics in Medicine 17, 1998, method 10): unlike a bootstrap it stays open where no question
// told the two apart, since thirty questions cannot rule out a loss of some percent. Needs a
// question.
[[nodiscard]] Interval paired_proportions(const PairedCounts& counts);

// Mean of paired differences, by Student's t. One difference alone has no bounds: they are
// infinite.
[[nodiscard]] Interval paired_mean(std::span<const double> differences);

// The t below which 97.5 % of Student's distribution lies; degrees >= 1.
[[nodiscard]] double t_quantile(int64_t degrees);

}  // namespace mi::search
