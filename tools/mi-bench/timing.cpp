#include "tools/mi-bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

namespace mi::tools {
namespace {

template <class T, class Convert>
void fill(Tensor<T, 3>& tensor, uint64_t seed, const Convert& convert) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  for (T& value : tensor.span()) value = convert(normal(engine));
}

}  // namespace

std::vector<Timing> alternate(std::vector<std::function<void()>> contestants, int rounds) {
  std::vector<std::vector<double>> times(contestants.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      contestants[i]();
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      if (round > 0) times[i].push_back(took.count());
    }
  }
  std::vector<Timing> result;
  for (auto& of : times) {
    const auto [least, most] = std::minmax_element(of.begin(), of.end());
    result.push_back({median(of), *least, *most, of});
  }
  return result;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<double> ratios(const Timing& a, const Timing& b) {
  std::vector<double> result(a.all.size());
  for (size_t i = 0; i < result.size(); ++i) result[i] = a.all[i] / b.all[i];
  return result;
}

void fill_random(Tensor<float, 3>& tensor, uint64_t seed) {
  fill(tensor, seed, [](float x) { return x; });
}
void fill_random(Tensor<bf16, 3>& tensor, uint64_t seed) {
  fill(tensor, seed, [](float x) { return to_bf16(x); });
}

}  // namespace mi::tools
