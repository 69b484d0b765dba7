// The pictures of a report's heads, for a terminal and for the page.
#pragma once

#include <string>

#include "libsearch/report/heads.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

// Whether a head of the config runs as it did when the report's pictures were drawn: if not, only
// where its mass lies is true of it.
[[nodiscard]] bool is_drawn_as(const HeadPictures& pictures, const runtime::HeadConfig& config,
                               HeadPlace place);

// Side by side as many planes as are true of the head; each of the characters " .:-=+*#%@", a
// factor of 4 in mass apart, or an eighth of the keys taken. Empty without pictures.
[[nodiscard]] std::string picture_text(const ScoreReport& report, const runtime::HeadConfig& config,
                                       HeadPlace place, int width);

// One plane of one head for the page's script: base64 of a byte per cell of the lower triangle, row
// by row; mass on a log scale of 12 octaves, the most being 255.
[[nodiscard]] std::string picture_base64(const HeadPictures& pictures, HeadPlace place,
                                         HeadPictures::Plane plane);

}  // namespace mi::search
