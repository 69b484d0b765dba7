// The score report as a file: HDF5 behind 512 bytes (a "user block", which HDF5 skips) that name
// the digest of the rest, so that a damaged file is told before HDF5 reads it.
//   attributes  schema "mi.report", schema_version
//   /about      JSON: model, samples, options, warnings, seconds
//   /candidates YAML, as calib_data/candidates.yaml
//   /scores/X   f32 [samples, layers, heads, candidates], dense last; X: recall, recall_p05, ...
//   /pictures   (if a config was certified) about: JSON, config: YAML, and
//     X         f32 [layers, heads, cells, cells]; X: mass, lost, taken (HeadPictures)
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "kernels/status.h"
#include "libsearch/search/score_report.h"

namespace mi::search {

inline constexpr int kReportVersion = 1;

// Code::schema, with what was found and expected, for all that is not such a report.
[[nodiscard]] Result<ScoreReport> load_report(const std::filesystem::path& path);
[[nodiscard]] Result<ScoreReport> parse_report(std::string_view bytes, std::string_view file);

// The same report has the same bytes.
[[nodiscard]] Result<std::string> dump_report(const ScoreReport& report);
// Whole or not at all, as configs are.
[[nodiscard]] Status save_report(const ScoreReport& report, const std::filesystem::path& path);

}  // namespace mi::search
