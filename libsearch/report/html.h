// A score report and one head-config made from it as a single HTML file: no network, no fonts, no
// scripts but its own. All that it says is in the markup; the script only adds a head's details.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "libruntime/config.h"
#include "libsearch/report/pareto_curve.h"
#include "libsearch/report/text.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

struct HtmlOptions {
  std::span<const ParetoPoint> curve;
  std::span<const ParetoPoint> published;  // the same by the published method's rule
  // Of models with many heads only the worst ones' candidates are in the file, and these heads'.
  std::span<const HeadPlace> heads;
};

// The report must be complete, the config of the same scores (check_same_scores).
[[nodiscard]] std::string html_page(const ScoreReport& report, const runtime::HeadConfig& config,
                                    const HtmlOptions& options);

}  // namespace mi::search
