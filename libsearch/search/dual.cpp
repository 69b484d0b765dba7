#include "libsearch/search/dual.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Cholesky>
#include <Eigen/Core>

namespace mi::search {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The bound with every minimum softened at a temperature t, min x -> -t log sum exp(-x / t), and
// t log(price) added for each row, which keeps prices positive. Smooth, so Newton's method climbs
// it; as t falls its top goes to the bound's.
struct Soft {
  double value = 0;
  VectorXd gradient;
  MatrixXd curvature;  // the negative Hessian
};

// Of a softened minimum: what weighs less changes nothing that counts.
constexpr double kNegligible = 1e-9;
constexpr double kNegligibleBelow = -40;  // exp of it

// Ten steps or so; the part of the bound that is missing at the last one is a tenth of kLastHeat.
constexpr double kCooling = 4;
constexpr int kMostSteps = 16;
constexpr double kLastHeat = 1e-4;  // heads * temperature, of the bound
constexpr int kMostNewton = 20;
constexpr int kMostHalvings = 30;

class SoftBound {
 public:
  explicit SoftBound(const Knapsack& knapsack) : knapsack_(knapsack) {}

  Soft at(const VectorXd& prices, double temperature, bool derivatives) {
    const auto rows = static_cast<Eigen::Index>(knapsack_.rows());
    Soft soft{temperature * prices.array().log().sum() - prices.sum(), {}, {}};
    if (derivatives) {
      soft.gradient = temperature * prices.cwiseInverse() - VectorXd::Ones(rows);
      soft.curvature = (temperature * prices.array().square().inverse()).matrix().asDiagonal();
    }
    values_.resize(knapsack_.lengths() * knapsack_.candidates);
    families_.resize(knapsack_.families.size());
    for (size_t h = 0; h < knapsack_.heads; ++h) {
      double least = kInfinity;
      for (size_t f = 0; f < families_.size(); ++f) {
        families_[f] = 0;
        for (size_t t = 0; t < knapsack_.lengths(); ++t)
          families_[f] += soften(h, f, t, prices, temperature);
        least = std::min(least, families_[f]);
      }
      double sum = 0;
      for (double& family : families_) {
        family = std::exp((least - family) / temperature);
        sum += family;
      }
      soft.value += least - temperature * std::log(sum);
      if (!derivatives) continue;
      VectorXd mean = VectorXd::Zero(rows);
      for (size_t f = 0; f < families_.size(); ++f)
        if (families_[f] > kNegligible * sum)
          add_family(h, f, families_[f] / sum, temperature, mean, soft);
      soft.gradient += mean;
      soft.curvature -= mean * mean.transpose() / temperature;
    }
    return soft;
  }

 private:
  // A family's softened value at a length; leaves its candidates' weights in values_.
  double soften(size_t head, size_t f, size_t length, const VectorXd& prices, double temperature) {
    const auto& members = knapsack_.families[f];
    const std::span<const double> all(prices.data(), knapsack_.rows());
    double* values = values_.data() + length * knapsack_.candidates;
    double least = kInfinity;
    for (const size_t c : members) {
      values[c] = knapsack_.value(length, head, c, all);
      least = std::min(least, values[c]);
    }
    if (std::isinf(least)) return least;
    double sum = 0;
    for (const size_t c : members) {
      const double below = (least - values[c]) / temperature;
      values[c] = below < kNegligibleBelow ? 0 : std::exp(below);
      sum += values[c];
    }
    for (const size_t c : members) values[c] /= sum;
    return least - temperature * std::log(sum);
  }

  // The softened minimum mixes families, and their candidates at each length by themselves.
  void add_family(size_t head, size_t f, double weight, double temperature, VectorXd& mean,
                  Soft& soft) {
    VectorXd own = VectorXd::Zero(mean.size());
    for (size_t t = 0; t < knapsack_.lengths(); ++t) {
      const auto begin = static_cast<Eigen::Index>(knapsack_.row_begin[t]);
      const auto size = static_cast<Eigen::Index>(knapsack_.row_begin[t + 1]) - begin;
      auto part = own.segment(begin, size);
      auto curvature = soft.curvature.block(begin, begin, size, size);
      for (const size_t c : knapsack_.families[f]) {
        const double share = values_[t * knapsack_.candidates + c];
        if (share < kNegligible) continue;
        const Eigen::Map<const VectorXd> cost(knapsack_.costs_of(t, head, c).data(), size);
        part += share * cost;
        curvature += (weight * share / temperature) * cost * cost.transpose();
      }
      curvature -= (weight / temperature) * part * part.transpose();
    }
    mean += weight * own;
    soft.curvature += (weight / temperature) * own * own.transpose();
  }

  const Knapsack& knapsack_;
  std::vector<double> families_;  // softened values, then weights, of a head
  std::vector<double> values_;    // [lengths, candidates] of a head, likewise
};

// Newton's method from `prices` to near the top.
void climb(SoftBound& bound, double temperature, VectorXd& prices) {
  for (int newton = 0; newton < kMostNewton; ++newton) {
    const Soft here = bound.at(prices, temperature, true);
    const VectorXd direction = here.curvature.ldlt().solve(here.gradient);
    const double slope = direction.dot(here.gradient);  // twice what the step promises
    if (!(slope > 0.01 * temperature)) return;
    double stride = 1;
    for (Eigen::Index k = 0; k < prices.size(); ++k)
      if (direction[k] < 0) stride = std::min(stride, -0.9 * prices[k] / direction[k]);
    int halvings = 0;
    while (!(bound.at(prices + stride * direction, temperature, false).value >
             here.value + 0.1 * stride * slope)) {
      stride /= 2;
      if (++halvings == kMostHalvings) return;  // the sums' rounding hides what is left
    }
    prices += stride * direction;
  }
}

}  // namespace

std::vector<std::vector<size_t>> group_by_family(const AllocationProblem& problem) {
  std::vector<std::vector<size_t>> members;
  for (size_t c = 0; c < problem.families.size(); ++c) {
    if (problem.families[c] >= members.size()) members.resize(problem.families[c] + 1);
    members[problem.families[c]].push_back(c);
  }
  return members;
}

bool beyond_dense(const Choice& choice) {
  return !within(choice.dearest(), 1);
}

Knapsack::Knapsack(const AllocationProblem& problem, double limit)
    : heads(problem.heads()),
      candidates(problem.families.size()),
      families(group_by_family(problem)),
      row_begin{0} {
  const auto count = static_cast<double>(problem.lengths());
  for (size_t t = 0; t < problem.lengths(); ++t) {
    row_begin.push_back(row_begin.back() + problem.samples(t));
    const double most = limit * problem.allowance(t) * static_cast<double>(heads);
    auto& losses = loss.emplace_back();
    auto& costs = cost.emplace_back();
    for (const auto& head : problem.choices[t]) {
      for (const Choice& choice : head) {
        losses.push_back(beyond_dense(choice) ? kInfinity : choice.loss / count);
        for (const double c : choice.cost) costs.push_back(c / most);
      }
    }
  }
}

double lower_bound(const Knapsack& knapsack, std::span<const double> prices) {
  double bound = 0;
  for (const double price : prices) bound -= price;
  for (size_t h = 0; h < knapsack.heads; ++h) {
    double least = kInfinity;
    for (const auto& family : knapsack.families) {
      double sum = 0;
      for (size_t t = 0; t < knapsack.lengths(); ++t) {
        double best = kInfinity;
        for (const size_t c : family) best = std::min(best, knapsack.value(t, h, c, prices));
        sum += best;
      }
      least = std::min(least, sum);
    }
    bound += least;
  }
  return bound;
}

Prices best_prices(const Knapsack& knapsack, double loss) {
  const auto rows = static_cast<Eigen::Index>(knapsack.rows());
  const auto heads = static_cast<double>(knapsack.heads);
  Prices best{std::vector<double>(knapsack.rows(), 0), 0};
  best.bound = lower_bound(knapsack, best.of_rows);
  const double scale = std::max(loss, 1e-12);
  VectorXd prices = VectorXd::Constant(rows, scale / static_cast<double>(rows));
  SoftBound bound(knapsack);
  double temperature = scale / heads;
  for (int step = 0; step < kMostSteps; ++step, temperature /= kCooling) {
    climb(bound, temperature, prices);
    const std::span<const double> now(prices.data(), knapsack.rows());
    if (const double value = lower_bound(knapsack, now); value > best.bound) {
      best.bound = value;
      best.of_rows.assign(now.begin(), now.end());
    }
    if (heads * temperature < kLastHeat * best.bound) break;
  }
  return best;
}

}  // namespace mi::search
