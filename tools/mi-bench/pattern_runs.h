// Every timed pattern on one layer of random tensors, beside dense attention and beside its own
// estimate alone.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "libsearch/search/device_profile.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"

namespace mi::tools {

inline constexpr double kShare = 0.15;  // of dense attention; estimates are part of it

// kShare of the keys that row block `block` of a whole prompt sees: its own 64, and stretches of
// `run` keys (1 or 64) anywhere before them.
void select_randomly(std::span<uint64_t> bits, int64_t block, int64_t run, std::mt19937_64& engine);

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
