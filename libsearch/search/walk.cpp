#include "libsearch/search/walk.h"

#include <algorithm>
#include <limits>

namespace mi::search {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double price(const Choice& choice, std::span<const double> weights) {
  double sum = 0;
  for (size_t s = 0; s < weights.size(); ++s) sum += weights[s] * choice.cost[s];
  return sum;
}

// Lower convex hull: costs rise, losses fall, slopes flatten.
std::vector<HullPoint> lower_hull(std::span<const Choice> choices,
                                  std::span<const size_t> candidates,
                                  std::span<const double> weights) {
  std::vector<HullPoint> points;
  HullPoint cheapest{kInfinity, 0, 0};
  for (size_t c : candidates) {
    const HullPoint point{price(choices[c], weights), choices[c].loss, c};
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

}  // namespace

Walk make_walk(std::span<const std::vector<Choice>> choices,
               std::span<const std::span<const size_t>> members, std::span<const double> weights) {
  Walk walk;
  walk.choices = choices;
  for (size_t h = 0; h < choices.size(); ++h) {
    const auto& hull = walk.hulls.emplace_back(lower_hull(choices[h], members[h], weights));
    for (size_t i = 1; i < hull.size(); ++i) {
      const HullPoint& a = hull[i - 1];
      const HullPoint& b = hull[i];
      walk.segments.push_back({(a.loss - b.loss) / (b.cost - a.cost), h, i});
    }
  }
  std::sort(walk.segments.begin(), walk.segments.end(), [](const Segment& a, const Segment& b) {
    if (a.slope != b.slope) return a.slope > b.slope;
    return a.head != b.head ? a.head < b.head : a.to < b.to;
  });
  return walk;
}

Position::Position(const Walk& walk)
    : point(walk.hulls.size(), 0), sample_costs(walk.choices[0][0].cost.size(), 0) {
  for (size_t h = 0; h < walk.hulls.size(); ++h) {
    const HullPoint& start = walk.hulls[h][0];
    cost += start.cost;
    loss += start.loss;
    const auto& costs = walk.choices[h][start.candidate].cost;
    for (size_t s = 0; s < costs.size(); ++s) sample_costs[s] += costs[s];
  }
}

double Position::dearest() const {
  return *std::max_element(sample_costs.begin(), sample_costs.end());
}

bool Position::step(const Walk& walk, const Segment& segment, double limit) {
  const HullPoint& from = walk.hulls[segment.head][segment.to - 1];
  const HullPoint& to = walk.hulls[segment.head][segment.to];
  const auto& before = walk.choices[segment.head][from.candidate].cost;
  const auto& after = walk.choices[segment.head][to.candidate].cost;
  for (size_t s = 0; s < before.size(); ++s)
    if (!within(sample_costs[s] + after[s] - before[s], limit)) return false;
  for (size_t s = 0; s < before.size(); ++s) sample_costs[s] += after[s] - before[s];
  cost += to.cost - from.cost;
  loss += to.loss - from.loss;
  point[segment.head] = segment.to;
  return true;
}

WalkEnd walk_to(const Walk& walk, double limit) {
  WalkEnd end{Position(walk), 0};
  for (const Segment& segment : walk.segments)
    if (!end.position.step(walk, segment, limit)) {
      end.slope = segment.slope;
      break;
    }
  return end;
}

double lower_bound(const Walk& walk, double limit) {
  const Position start(walk);
  double cost = start.cost;
  double loss = start.loss;
  for (const Segment& segment : walk.segments) {
    const HullPoint& from = walk.hulls[segment.head][segment.to - 1];
    const HullPoint& to = walk.hulls[segment.head][segment.to];
    if (!within(cost + to.cost - from.cost, limit))
      return loss - std::max(0.0, limit - cost) * segment.slope;
    cost += to.cost - from.cost;
    loss += to.loss - from.loss;
  }
  return loss;
}

}  // namespace mi::search
