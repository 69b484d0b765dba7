// A planned head as the device is to select its keys.
#pragma once

#include <cstddef>

#include "kernels/cuda/select_call.h"
#include "libruntime/plan.h"
#include "libruntime/plan_heads.h"

namespace mi::runtime {

// Which estimates a head has.
[[nodiscard]] bool has_stripes(const HeadPlan& head);
[[nodiscard]] bool has_vertical(const HeadPlan& head);
[[nodiscard]] bool has_pooled(const HeadPlan& head);
[[nodiscard]] bool has_antidiagonals(const HeadPlan& head, int stride);
// Whether its threshold is found on the device, from a share. A window's is found here.
[[nodiscard]] bool spends_tiles(const HeadPlan& head);

// Errors: unsupported, naming the head.
[[nodiscard]] Status check_head(const HeadPlan& head, size_t layer, size_t h);
// What a head executed, as Plan::run tells it.
[[nodiscard]] HeadStats stats_of(const HeadPlan& head, const kernels::cuda::HeadReport& report,
                                 const PlanShape& shape);
[[nodiscard]] kernels::cuda::HeadRule rule_of(const HeadPlan& head, const PlanShape& shape);

}  // namespace mi::runtime
