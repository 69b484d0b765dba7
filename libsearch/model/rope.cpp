#include "libsearch/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mi::search {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

double llama3_frequency(const Rope& rope, double frequency) {
  // Turns that the pair makes within the original context.
  const double turns = static_cast<double>(rope.original_context) * frequency / kTurn;
  if (turns > rope.high_factor) return frequency;
  if (turns < rope.low_factor) return frequency / rope.factor;
  const double kept = (turns - rope.low_factor) / (rope.high_factor - rope.low_factor);
  return frequency * (kept + (1 - kept) / rope.factor);
}

// The pair, as a real number, that makes so many turns within the original context.
double yarn_pair(const Rope& rope, double turns) {
  return rope.dim * std::log(static_cast<double>(rope.original_context) / (turns * kTurn)) /
         (2 * std::log(rope.theta));
}

}  // namespace

std::vector<double> rope_frequencies(const Rope& rope, int64_t tokens, int64_t context) {
  double theta = rope.theta;
  if (rope.scaling == RopeScaling::dynamic) {
    const double stretch =
        static_cast<double>(std::max(tokens, context)) / static_cast<double>(context);
    theta *= std::pow(rope.factor * stretch - (rope.factor - 1),
                      static_cast<double>(rope.dim) / (rope.dim - 2));
  }
  double first = 0, last = 0;
  if (rope.scaling == RopeScaling::yarn) {
    first = yarn_pair(rope, rope.beta_fast);
    last = yarn_pair(rope, rope.beta_slow);
    if (rope.truncate) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, rope.dim - 1.0);
    if (first == last) last += 0.001;
  }
  const auto& factors = tokens > rope.original_context ? rope.long_factors : rope.short_factors;
  std::vector<double> frequencies;
  for (int pair = 0; pair < rope.dim / 2; ++pair) {
    double frequency = std::pow(theta, -2.0 * pair / rope.dim);
    switch (rope.scaling) {
      case RopeScaling::none:
      case RopeScaling::dynamic:
        break;
      case RopeScaling::linear:
        frequency /= rope.factor;
        break;
      case RopeScaling::llama3:
        frequency = llama3_frequency(rope, frequency);
        break;
      case RopeScaling::yarn: {
        const double stretched = std::clamp((pair - first) / (last - first), 0.0, 1.0);
        frequency *= stretched / rope.factor + 1 - stretched;
        break;
      }
      case RopeScaling::factors:
        frequency /= factors[static_cast<size_t>(pair)];
        break;
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

RopeAngles rope_angles(const Rope& rope, int64_t first, int64_t tokens, int64_t context) {
  // In double: f32 angles are off by 5e-4 at position 8000.
  const auto frequencies = rope_frequencies(rope, first + tokens, context);
  const size_t half = frequencies.size();
  RopeAngles angles;
  angles.cosine.resize(static_cast<size_t>(tokens) * half);
  angles.sine.resize(angles.cosine.size());
  for (size_t i = 0; i < half; ++i) {
    for (int64_t row = 0; row < tokens; ++row) {
      const double angle = static_cast<double>(first + row) * frequencies[i];
      const size_t at = static_cast<size_t>(row) * half + i;
      angles.cosine[at] = static_cast<float>(rope.attention_factor * std::cos(angle));
      angles.sine[at] = static_cast<float>(rope.attention_factor * std::sin(angle));
    }
  }
  return angles;
}

double yarn_attention_factor(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

double longrope_attention_factor(double factor, int64_t original_context) {
  return factor <= 1
             ? 1
             : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_context)));
}

}  // namespace mi::search
