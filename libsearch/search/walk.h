// A walk along the merged lower convex hulls of the heads' (cost, loss) points, as allocation takes
// it: each step improves the head whose loss falls most per cost.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "libsearch/search/allocate.h"

namespace mi::search {

struct HullPoint {
  double cost = 0;
  double loss = 0;
  size_t candidate = 0;
};

struct Segment {
  double slope = 0;  // loss saved per cost
  size_t head = 0;
  size_t to = 0;  // hull point it leads to
};

struct Walk {
  std::span<const std::vector<Choice>> choices;  // [head][candidate], of the problem
  std::vector<std::vector<HullPoint>> hulls;     // [head]
  std::vector<Segment> segments;                 // of all hulls, slopes falling
};

// A walk over the heads' hulls at one length. members[head]: the candidates that the head may take;
// weights [samples], adding up to 1: a candidate's price is the samples' costs weighted.
[[nodiscard]] Walk make_walk(std::span<const std::vector<Choice>> choices,
                             std::span<const std::span<const size_t>> members,
                             std::span<const double> weights);

// A place on a walk. Costs are sums over heads.
struct Position {
  std::vector<size_t> point;         // [head] hull point
  std::vector<double> sample_costs;  // [sample]
  double cost = 0;                   // as the walk prices it
  double loss = 0;

  explicit Position(const Walk& walk);
  [[nodiscard]] double dearest() const;
  // Takes one step, unless that would cost a sample more than `limit`.
  bool step(const Walk& walk, const Segment& segment, double limit);
};

struct WalkEnd {
  Position position;
  double slope = 0;  // of the first segment that did not fit
};
[[nodiscard]] WalkEnd walk_to(const Walk& walk, double limit);

// Loss that no assignment is below: the walk by its own price alone, with a fraction of the segment
// that does not fit. Whatever keeps the limit on every sample keeps it on any weighting of them.
[[nodiscard]] double lower_bound(const Walk& walk, double limit);

}  // namespace mi::search
