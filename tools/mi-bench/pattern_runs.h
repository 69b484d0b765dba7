// Every timed pattern on one layer of random tensors, beside dense attention and beside its own
// estimate alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libsearch/search/device_profile.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"

namespace mi::tools {

inline constexpr double kShare = 0.15;  // of dense attention; estimates are part of it

struct Machine {
  const kernels::Backend* backend = nullptr;
  int threads = 1;
  int rounds = 5;
  uint64_t seed = 0;
};
[[nodiscard]] Result<Machine> machine_of(const BenchOptions& options);

// A head of pattern search::kTimedPatterns[pattern]; how much it attends is still to be found.
[[nodiscard]] runtime::HeadEntry entry_of(size_t pattern);
// The plan that costs kShare, or as little as the pattern can on so few tokens.
[[nodiscard]] Result<LayerPlan> plan_at_share(LayerTensors& layer, size_t pattern,
                                              const Machine& machine);

struct PatternRun {
  runtime::HeadEntry entry;
  double share = 0;  // of dense attention
  double tiles = 0;  // of all heads
  double ms = 0;
  double estimate_ms = 0;  // part of it
};

struct LengthRun {
  int64_t n = 0;
  double dense_ms = 0;
  std::vector<PatternRun> patterns;  // [timed pattern]
};

// Dense attention and every pattern, `entries` or, where there are none, at kShare.
[[nodiscard]] Result<LengthRun> measure_patterns(const Machine& machine, int dim, int64_t n,
                                                 std::span<const runtime::HeadEntry> entries);

}  // namespace mi::tools
