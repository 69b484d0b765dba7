// What one core's units do from registers and L1: the ceilings that attention is compared with.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "kernels/backend.h"

namespace mi::tools {

// Sum over threads of what `work` returns per own CPU time, in units of 1e9 per second. By CPU
// time, because a roof must not fall when another process takes the core away.
[[nodiscard]] double cpu_rate(int threads, const std::function<double()>& work);

// Products that one instruction makes.
enum class Unit { amx, dot, fma_avx512, fma_avx2 };
struct UnitInfo {
  Unit unit;
  std::string_view name;
  std::string_view key;      // in JSON
  std::string_view backend;  // runs only where this one does
  double flop_per_cycle;     // of one core of this kind
};
[[nodiscard]] std::span<const UnitInfo> all_units();
[[nodiscard]] bool runs_here(std::string_view backend);
// The unit under a backend's products of bf16 or f32 input; null: none of these.
[[nodiscard]] const UnitInfo* unit_under(const kernels::Backend& backend, bool narrow);

// Of all threads together; the better of a few calls each, since a roof is what the machine can do,
// not what it does on average.
struct Peak {
  double gflops = 0;
  double ghz = 0;  // sum over threads of the clock right behind the loop
};
// One call takes 10 to 40 ms.
[[nodiscard]] Peak measure_peak(const UnitInfo& unit, int threads);
void take_better(Peak& best, const Peak& other);

// Softmax of 64 x 64 scores by the text of a backend's attention, head dim 64, products left out.
struct Softmax {
  std::string_view name;
  std::string_view key;
  std::string_view backend;
  double (*run)(float* memory);  // returns tiles; kSoftmaxFloats of memory
};
inline constexpr size_t kSoftmaxFloats = size_t{64} * 1024;
[[nodiscard]] std::span<const Softmax> all_softmaxes();
// Tiles per nanosecond of all threads together.
[[nodiscard]] double softmax_rate(const Softmax& softmax, int threads);

}  // namespace mi::tools
