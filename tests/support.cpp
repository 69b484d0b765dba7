#include "tests/support.h"

#include <cmath>
#include <cstdio>
#include <numbers>

namespace mi::test {
namespace {
int skip_count = 0;
}

void note_skip(const std::string& reason) {
  ++skip_count;
  std::printf("SKIPPED: %s\n", reason.c_str());
}
int skips() {
  return skip_count;
}

std::string worst_difference(std::span<const float> got, std::span<const float> want,
                             Tolerance tolerance) {
  if (got.size() != want.size())
    return "sizes differ: got " + std::to_string(got.size()) + ", want " +
           std::to_string(want.size());
  double worst = 0;
  size_t place = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = got[i];
    const double w = want[i];
    double excess = 0;
    if (std::isnan(g) || std::isnan(w)) {
      excess = std::isnan(g) == std::isnan(w) ? 0 : HUGE_VAL;
    } else if (std::isinf(g) || std::isinf(w)) {
      excess = g == w ? 0 : HUGE_VAL;
    } else {
      const double error = std::abs(g - w);
      const double allowed = std::max(tolerance.absolute, tolerance.relative * std::abs(w));
      excess = error <= allowed ? 0 : error / std::max(allowed, 1e-300);
    }
    if (excess > worst) {
      worst = excess;
      place = i;
    }
  }
  if (worst == 0) return {};
  char text[160];
  std::snprintf(text, sizeof text, "worst at %zu: got %.9g, want %.9g (%.3g times the tolerance)",
                place, static_cast<double>(got[place]), static_cast<double>(want[place]), worst);
  return text;
}

std::vector<float> random_normal(size_t count, uint64_t seed, float sigma) {
  std::mt19937_64 engine(seed);
  const auto uniform = [&] { return (static_cast<double>(engine() >> 11) + 0.5) * 0x1p-53; };
  std::vector<float> values(count);
  for (float& value : values)
    value = sigma * static_cast<float>(std::sqrt(-2 * std::log(uniform())) *
                                       std::cos(2 * std::numbers::pi * uniform()));
  return values;
}

}  // namespace mi::test
