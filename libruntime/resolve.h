// A head's entry in the config made concrete for one prompt length.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libruntime/estimator.h"

namespace mi::runtime {

struct ResolvedHead {
  EstimatorParams params;
  float lambda = 0;             // keys with a larger estimate are selected
  bool spend_share = false;     // lambda is not given: the one that spends `share`
  std::optional<double> share;  // cap on the head's cost as a share of dense
  bool beyond_range = false;    // the length lies outside what was calibrated
  bool is_short = false;        // dense, for the length is too short for the entry to pay
};

// Value of a per-length parameter: interpolated in log N (and in the logarithm of the value), the
// nearest calibrated one outside the range.
[[nodiscard]] double value_at(const PerLength& values, int64_t length);

// Outside the calibrated range a threshold is not trusted: the share of the nearest calibrated
// length is spent instead. Below kernel.dense_below entries of stripe+vertical_slash are
// dense, others below a length in proportion to it, windows never.
[[nodiscard]] Result<ResolvedHead> resolve_head(const HeadEntry& entry,
                                                const HeadConfig::Kernel& kernel, int64_t length);

}  // namespace mi::runtime
