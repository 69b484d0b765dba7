// What a search will take on this machine: time from two short measured passes, memory from sizes.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/status.h"
#include "libsearch/search/search.h"

namespace mi::search {

struct Prediction {
  double search_seconds = 0;  // forward passes and scoring
  double verify_seconds = 0;
  double peak_bytes = 0;
};

// Runs two short prefixes of `probe` (256 and 1024 tokens at most) and extrapolates: linear layers
// grow with n, attention and scoring with n^2.
[[nodiscard]] Result<Prediction> predict(const Model& model, const Sample& probe,
                                         std::span<const int64_t> calibration,
                                         std::span<const int64_t> held_out,
                                         const SearchOptions& options);

}  // namespace mi::search
