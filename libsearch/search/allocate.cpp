#include "libsearch/search/allocate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

namespace mi::search {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-12;  // of sums of costs

struct HullPoint {
  double cost = 0;
  double loss = 0;
  size_t candidate = 0;
};

// Lower convex hull: costs rise, losses fall, slopes flatten.
std::vector<HullPoint> lower_hull(std::span<const Choice> choices,
                                  std::span<const size_t> candidates) {
  std::vector<HullPoint> points;
  HullPoint cheapest{kInfinity, 0, 0};
  for (size_t c : candidates) {
    const HullPoint point{choices[c].cost, choices[c].loss, c};
    if (point.cost < cheapest.cost) cheapest = point;
    // An estimate on top of nearly all keys costs more than dense attention, which loses nothing.
    if (point.cost <= 1) points.push_back(point);
  }
  if (points.empty()) points.push_back(cheapest);
  std::sort(points.begin(), points.end(), [](const HullPoint& a, const HullPoint& b) {
    if (a.cost != b.cost) return a.cost < b.cost;
    if (a.loss != b.loss) return a.loss < b.loss;
    return a.candidate < b.candidate;
  });
  std::vector<HullPoint> hull;
  for (const HullPoint& p : points) {
    if (!hull.empty() && p.loss >= hull.back().loss) continue;
    while (hull.size() >= 2) {
      const HullPoint& a = hull[hull.size() - 2];
      const HullPoint& b = hull.back();
      if ((b.loss - a.loss) * (p.cost - a.cost) < (p.loss - a.loss) * (b.cost - a.cost)) break;
      hull.pop_back();
    }
    hull.push_back(p);
  }
  return hull;
}

struct Segment {
  double slope = 0;  // loss saved per cost
  size_t head = 0;
  size_t to = 0;  // hull point it leads to
};

// Hulls of all heads at one length, with their segments merged by falling slope.
struct Walk {
  std::vector<std::vector<HullPoint>> hulls;
  std::vector<Segment> segments;

  void merge() {
    for (size_t h = 0; h < hulls.size(); ++h)
      for (size_t i = 1; i < hulls[h].size(); ++i) {
        const HullPoint& a = hulls[h][i - 1];
        const HullPoint& b = hulls[h][i];
        segments.push_back({(a.loss - b.loss) / (b.cost - a.cost), h, i});
      }
    std::sort(segments.begin(), segments.end(), [](const Segment& a, const Segment& b) {
      if (a.slope != b.slope) return a.slope > b.slope;
      return a.head != b.head ? a.head < b.head : a.to < b.to;
    });
  }
};

struct WalkEnd {
  std::vector<size_t> point;  // [head] hull point reached
  double cost = 0;            // sums over heads
  double loss = 0;
  double bound = 0;          // loss with a fraction of the next segment: no assignment is below
  double slope = kInfinity;  // of the first segment that did not fit
};

WalkEnd walk_to(const Walk& walk, double limit) {
  WalkEnd end;
  end.point.assign(walk.hulls.size(), 0);
  for (const auto& hull : walk.hulls) {
    end.cost += hull[0].cost;
    end.loss += hull[0].loss;
  }
  end.bound = end.loss;
  for (const Segment& segment : walk.segments) {
    const HullPoint& from = walk.hulls[segment.head][segment.to - 1];
    const HullPoint& to = walk.hulls[segment.head][segment.to];
    end.slope = segment.slope;
    if (end.cost + to.cost - from.cost > limit * (1 + kRounding)) {
      end.bound = end.loss - std::max(0.0, limit - end.cost) * segment.slope;
      return end;
    }
    end.cost += to.cost - from.cost;
    end.loss += to.loss - from.loss;
    end.point[segment.head] = segment.to;
  }
  end.slope = 0;
  end.bound = end.loss;
  return end;
}

std::vector<std::vector<size_t>> group_by_family(const AllocationProblem& problem) {
  std::vector<std::vector<size_t>> members;
  for (size_t c = 0; c < problem.families.size(); ++c) {
    if (problem.families[c] >= members.size()) members.resize(problem.families[c] + 1);
    members[problem.families[c]].push_back(c);
  }
  return members;
}

Walk free_walk(const AllocationProblem& problem, size_t length) {
  std::vector<size_t> all(problem.families.size());
  std::iota(all.begin(), all.end(), size_t{0});
  Walk walk;
  for (const auto& head : problem.choices[length]) walk.hulls.push_back(lower_hull(head, all));
  walk.merge();
  return walk;
}

double least_cost(const Walk& walk) {
  double cost = 0;
  for (const auto& hull : walk.hulls) cost += hull[0].cost;
  return cost / static_cast<double>(walk.hulls.size());
}

Failure infeasible(double limit, double smallest) {
  return fail(
      Code::invalid_argument,
      fmt::format("budget: {:.4g}% is below the cheapest assignment of these candidates; the "
                  "smallest feasible budget is {}%",
                  100 * limit, percent_enough(smallest)));
}

Allocation to_allocation(const std::vector<Walk>& walks, const std::vector<WalkEnd>& ends) {
  Allocation allocation;
  for (size_t t = 0; t < walks.size(); ++t) {
    auto& chosen = allocation.chosen.emplace_back();
    for (size_t h = 0; h < ends[t].point.size(); ++h)
      chosen.push_back(walks[t].hulls[h][ends[t].point[h]].candidate);
    allocation.cost.push_back(ends[t].cost / static_cast<double>(ends[t].point.size()));
    allocation.loss += ends[t].loss / static_cast<double>(walks.size());
  }
  return allocation;
}

// Each head's family when every length stops at the slope that its free walk has at `share`.
std::vector<size_t> families_at(const AllocationProblem& problem,
                                const std::vector<Walk>& free_walks,
                                const std::vector<std::vector<size_t>>& members, double share) {
  std::vector<double> slope;
  for (const Walk& walk : free_walks)
    slope.push_back(walk_to(walk, share * static_cast<double>(problem.heads())).slope);
  std::vector<size_t> chosen;
  for (size_t h = 0; h < problem.heads(); ++h) {
    double best = kInfinity;
    size_t family = 0;
    for (size_t f = 0; f < members.size(); ++f) {
      double total = 0;
      for (size_t t = 0; t < problem.lengths(); ++t) {
        double least = kInfinity;
        const double price = std::isinf(slope[t]) ? 1e12 : slope[t];
        for (size_t c : members[f]) {
          const Choice& choice = problem.choices[t][h][c];
          least = std::min(least, choice.loss + price * choice.cost);
        }
        total += least;
      }
      if (total < best) {
        best = total;
        family = f;
      }
    }
    chosen.push_back(family);
  }
  return chosen;
}

std::vector<Walk> walks_of_families(const AllocationProblem& problem,
                                    const std::vector<std::vector<size_t>>& members,
                                    const std::vector<size_t>& families) {
  std::vector<Walk> walks;
  for (size_t t = 0; t < problem.lengths(); ++t) {
    Walk& walk = walks.emplace_back();
    for (size_t h = 0; h < problem.heads(); ++h)
      walk.hulls.push_back(lower_hull(problem.choices[t][h], members[families[h]]));
    walk.merge();
  }
  return walks;
}

}  // namespace

bool within(double cost, double limit) {
  return cost <= limit * (1 + kRounding);
}

std::string percent_enough(double cost) {
  return fmt::format("{:g}", std::ceil(cost * (1 - kRounding) * 1e5) / 1e3);
}

Result<Allocation> allocate_global(const AllocationProblem& problem, double limit) {
  const auto heads = static_cast<double>(problem.heads());
  std::vector<Walk> free_walks;
  double bound = 0;
  double smallest = 0;
  for (size_t t = 0; t < problem.lengths(); ++t) {
    free_walks.push_back(free_walk(problem, t));
    smallest = std::max(smallest, least_cost(free_walks.back()));
    bound +=
        walk_to(free_walks.back(), limit * heads).bound / static_cast<double>(problem.lengths());
  }
  if (!within(smallest, limit)) return infeasible(limit, smallest);

  // One length: the free walk is the answer. Several lengths share each head's family: try the
  // families that fit a fixed series of shares, so that the best of them never gets worse as the
  // limit rises.
  Allocation best;
  best.loss = kInfinity;
  double cheapest = kInfinity;
  const auto consider = [&](const std::vector<Walk>& walks) {
    std::vector<WalkEnd> ends;
    double dearest = 0;
    for (const Walk& walk : walks) dearest = std::max(dearest, least_cost(walk));
    cheapest = std::min(cheapest, dearest);
    if (!within(dearest, limit)) return;
    for (const Walk& walk : walks) ends.push_back(walk_to(walk, limit * heads));
    Allocation allocation = to_allocation(walks, ends);
    if (allocation.loss < best.loss) best = std::move(allocation);
  };
  if (problem.lengths() == 1) {
    consider(free_walks);
  } else {
    const auto members = group_by_family(problem);
    std::vector<size_t> previous;
    for (double step = 0; step <= 64; ++step) {
      const double share = std::pow(0.005, 1 - step / 64);  // 0.5 % to 100 %, 8.6 % apart
      auto families = families_at(problem, free_walks, members, share);
      if (families == previous) continue;
      consider(walks_of_families(problem, members, families));
      previous = std::move(families);
    }
  }
  if (std::isinf(best.loss)) return infeasible(limit, cheapest);
  best.gap = std::max(0.0, best.loss - bound);
  return best;
}

namespace {

// For every head the family with the least total `value` over lengths, each length taking the
// least `value` among its admissible candidates; infinity where there is none.
template <class Value>
Allocation pick_each_head(const AllocationProblem& problem, Value value) {
  Allocation allocation;
  allocation.chosen.resize(problem.lengths());
  allocation.cost.assign(problem.lengths(), 0);
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
          const double v = value(problem.choices[t][h][c]);
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
      allocation.cost[t] += choice.cost / static_cast<double>(problem.heads());
      allocation.loss += choice.loss / lengths;
    }
  }
  return allocation;
}

}  // namespace

Result<Allocation> allocate_per_head(const AllocationProblem& problem, double limit) {
  Allocation allocation = pick_each_head(problem, [&](const Choice& choice) {
    return within(choice.cost, limit) ? choice.loss : kInfinity;
  });
  if (!allocation.chosen.empty()) return allocation;
  // The smallest limit every head can meet with one family at all lengths.
  double smallest = 0;
  const auto members = group_by_family(problem);
  for (size_t h = 0; h < problem.heads(); ++h) {
    double head = kInfinity;
    for (const auto& family : members) {
      double dearest = 0;
      for (size_t t = 0; t < problem.lengths(); ++t) {
        double least = kInfinity;
        for (size_t c : family) least = std::min(least, problem.choices[t][h][c].cost);
        dearest = std::max(dearest, least);
      }
      head = std::min(head, dearest);
    }
    smallest = std::max(smallest, head);
  }
  return infeasible(limit, smallest);
}

Allocation allocate_min_recall(const AllocationProblem& problem, double min_recall) {
  return pick_each_head(problem, [&](const Choice& choice) {
    return choice.recall_p05 >= min_recall ? choice.cost : kInfinity;
  });
}

std::vector<ParetoPoint> pareto_curve(const AllocationProblem& problem, size_t length) {
  const Walk walk = free_walk(problem, length);
  const auto heads = static_cast<double>(walk.hulls.size());
  double cost = 0;
  double loss = 0;
  for (const auto& hull : walk.hulls) {
    cost += hull[0].cost;
    loss += hull[0].loss;
  }
  std::vector<ParetoPoint> curve = {{cost / heads, loss}};
  for (const Segment& segment : walk.segments) {
    const HullPoint& from = walk.hulls[segment.head][segment.to - 1];
    const HullPoint& to = walk.hulls[segment.head][segment.to];
    cost += to.cost - from.cost;
    loss += to.loss - from.loss;
    curve.push_back({cost / heads, loss});
  }
  return curve;
}

}  // namespace mi::search
