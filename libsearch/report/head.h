// One head as a report knows it: what was chosen, what it reaches, and what else could have been.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libsearch/report/text.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

// Of a config of the report's scores (check_same_scores): figures by length and by sample, and a
// picture of the candidates' recall by cost at a length of the report, without one that at which
// the head keeps least.
[[nodiscard]] std::string head_text(const ScoreReport& report, const runtime::HeadConfig& config,
                                    HeadPlace place, TextStyle style,
                                    std::optional<int64_t> length = std::nullopt);

}  // namespace mi::search
