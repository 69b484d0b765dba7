// One maker per pattern; estimator.cpp picks.
#pragma once

#include <memory>

#include "libruntime/estimator.h"

namespace mi::runtime::patterns {

[[nodiscard]] std::unique_ptr<const Estimator> make_static(const EstimatorParams& params);
[[nodiscard]] std::unique_ptr<const Estimator> make_vertical_slash(const EstimatorParams& params);
[[nodiscard]] std::unique_ptr<const Estimator> make_pooled_blocks(const EstimatorParams& params);
[[nodiscard]] std::unique_ptr<const Estimator> make_antidiagonal_blocks(
    const EstimatorParams& params);
[[nodiscard]] std::unique_ptr<const Estimator> make_stripe(const EstimatorParams& params);
[[nodiscard]] std::unique_ptr<const Estimator> make_stripe_vertical_slash(
    const EstimatorParams& params);

// a_shape: how many distances from 0 on, of at most `most`, have estimates above lambda.
[[nodiscard]] int64_t distances_above(float lambda, int64_t most);

// block_sparse counts: replaces each row's block masses by 1 / (rank + 1/2), so that
// e > 1/blocks keeps exactly the `blocks` largest. order: scratch of `count` entries.
void rank_blocks(float* mass, int64_t count, int32_t* order);

}  // namespace mi::runtime::patterns
