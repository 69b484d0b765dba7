// What attention takes on one device: mi-bench fit measures it once, mi-search turns costs into
// milliseconds by it. A layer takes
//   call + sum over heads of (dense_tile * price * tiles + keys * n_kv + rows * tiles of dense)
// where price, keys and rows are the pattern's.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libruntime/cost.h"
#include "libruntime/estimator.h"

namespace mi::search {

// Patterns whose times differ, as the file names them; the published count forms of vertical_slash
// and block_sparse count as their patterns.
inline constexpr std::array<std::string_view, 7> kTimedPatterns = {
    "a_shape",         "vertical_slash", "block_sparse",         "antidiagonal_8",
    "antidiagonal_16", "stripe",         "stripe+vertical_slash"};
// The index of a pattern, which is not dense, among them.
[[nodiscard]] size_t timed_pattern(const runtime::EstimatorParams& params);

struct PatternTime {
  double tile = 1;  // price of an executed tile, relative to one of dense attention
  // Milliseconds of the estimate: per key, for what is prepared once, and per 64 keys of a row
  // block, for its estimate and selection.
  double keys = 0;
  double rows = 0;
  friend bool operator==(const PatternTime&, const PatternTime&) = default;
};

// Milliseconds are those of all threads together.
struct HeadDimTimes {
  int head_dim = 0;
  int64_t dense_below = 0;  // prompts that dense attention runs faster than a 15 % plan
  double call = 0;          // of a layer's call, whatever its length
  double dense_tile = 0;
  std::array<PatternTime, kTimedPatterns.size()> patterns;

  [[nodiscard]] double dense_ms(const runtime::CallShape& shape) const;  // of a head
  [[nodiscard]] double head_ms(const runtime::CallShape& shape,
                               const runtime::EstimatorParams& params, double tiles) const;
  friend bool operator==(const HeadDimTimes&, const HeadDimTimes&) = default;
};

struct DeviceProfile {
  std::string cpu, backend;
  std::string element;  // what the backend's dense kernel computes in: bf16 or f32
  int threads = 0;
  std::vector<HeadDimTimes> head_dims;
  friend bool operator==(const DeviceProfile&, const DeviceProfile&) = default;
};

// Null when the profile lacks the head dim.
[[nodiscard]] const HeadDimTimes* find_times(const DeviceProfile& profile, int head_dim);

// Schema mi.device_profile version 1, read and written as a head-config is.
[[nodiscard]] Result<DeviceProfile> load_profile(const std::filesystem::path& path);
[[nodiscard]] Result<DeviceProfile> parse_profile(std::string_view yaml, std::string_view file);
[[nodiscard]] std::string dump_profile(const DeviceProfile& profile);
[[nodiscard]] Status save_profile(const DeviceProfile& profile, const std::filesystem::path& path);

}  // namespace mi::search
