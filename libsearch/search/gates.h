// Signs that a search's result is not to be trusted, as lines for the report and the config.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

// Samples that are the same, repeat themselves or are too short, and lengths without held-out ones.
[[nodiscard]] std::vector<std::string> sample_warnings(std::span<const Sample> calibration,
                                                       std::span<const Sample> held_out);
// Heads that keep hardly more than uniform attention would under the same mask, and heads whose
// estimate loses far more than an oracle at the same cost.
[[nodiscard]] std::vector<std::string> head_warnings(const ScoreTable& table,
                                                     const Allocation& allocation);
// With `strict` an error that tells all warnings in one line.
[[nodiscard]] Status check_warnings(std::span<const std::string> warnings, bool strict);

}  // namespace mi::search
