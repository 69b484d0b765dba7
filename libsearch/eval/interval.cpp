#include "libsearch/eval/interval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace mi::search {
namespace {

constexpr double kNormal = 1.959963984540054;  // 97.5 % of the normal distribution

// Wilson's score interval of one proportion.
Interval wilson(int64_t right, int64_t total) {
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(right) / n;
  const double z2 = kNormal * kNormal;
  const double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormal * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {p, right == 0 ? 0 : middle - half, right == total ? 1 : middle + half};
}

// P(|T| < t): a finite sum for a whole number of degrees (Abramowitz and Stegun 26.7.3 and 4).
double t_inside(double t, int64_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine2 = std::cos(angle) * std::cos(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? std::cos(angle) : 1;
  double sum = 0;
  for (int64_t i = odd ? 1 : 0; i <= degrees - 2; i += 2) {
    sum += term;
    term *= static_cast<double>(i + 1) / static_cast<double>(i + 2) * cosine2;
  }
  return odd ? 2 / std::numbers::pi * (angle + std::sin(angle) * sum) : std::sin(angle) * sum;
}

}  // namespace

double t_quantile(int64_t degrees) {
  if (degrees > 10000) return kNormal;  // they differ by less than 3e-4
  double low = 0;
  double high = 13;  // 12.706 for one degree, the largest
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (t_inside(middle, degrees) < 0.95 ? low : high) = middle;
  }
  return (low + high) / 2;
}

Interval paired_proportions(const PairedCounts& counts) {
  const int64_t n = counts.total();
  const Interval first = wilson(counts.both + counts.first, n);
  const Interval second = wilson(counts.both + counts.second, n);
  // Correlation of the two, with a correction for continuity where it is positive.
  const auto a = static_cast<double>(counts.both), b = static_cast<double>(counts.first);
  const auto c = static_cast<double>(counts.second), d = static_cast<double>(counts.neither);
  const double margins = (a + b) * (c + d) * (a + c) * (b + d);
  double excess = a * d - b * c;
  if (excess > 0) excess = std::max(0.0, excess - static_cast<double>(n) / 2);
  const double phi = margins == 0 ? 0 : excess / std::sqrt(margins);
  const auto combine = [phi](double x, double y) {
    return std::sqrt(std::max(0.0, x * x - 2 * phi * x * y + y * y));
  };
  Interval result;
  result.value = static_cast<double>(counts.second - counts.first) / static_cast<double>(n);
  result.low = result.value - combine(second.value - second.low, first.high - first.value);
  result.high = result.value + combine(second.high - second.value, first.value - first.low);
  return result;
}

Interval paired_mean(std::span<const double> differences) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto n = static_cast<double>(differences.size());
  Interval result;
  for (const double x : differences) result.value += x / n;
  if (differences.size() < 2) return {result.value, -kInfinity, kInfinity};
  double squares = 0;
  for (const double x : differences) squares += (x - result.value) * (x - result.value);
  const double half = t_quantile(std::ssize(differences) - 1) * std::sqrt(squares / (n - 1) / n);
  result.low = result.value - half;
  result.high = result.value + half;
  return result;
}

}  // namespace mi::search
