#include "libsearch/search/device_profile.h"

#include <algorithm>

namespace mi::search {

using runtime::BlockEstimate;
using runtime::Pattern;

size_t timed_pattern(const runtime::EstimatorParams& params) {
  std::string_view name = runtime::to_string(params.pattern);
  if (params.pattern == Pattern::block_sparse && params.estimate == BlockEstimate::antidiagonal)
    name = params.stride == 8 ? "antidiagonal_8" : "antidiagonal_16";
  return static_cast<size_t>(std::find(kTimedPatterns.begin(), kTimedPatterns.end(), name) -
                             kTimedPatterns.begin());
}

double HeadDimTimes::dense_ms(const runtime::CallShape& shape) const {
  return dense_tile * static_cast<double>(runtime::dense_tiles(shape));
}

double HeadDimTimes::head_ms(const runtime::CallShape& shape,
                             const runtime::EstimatorParams& params, double tiles) const {
  const PatternTime& time = patterns[timed_pattern(params)];
  return dense_tile * time.tile * tiles + time.keys * static_cast<double>(shape.n_kv) +
         time.rows * static_cast<double>(runtime::dense_tiles(shape));
}

const HeadDimTimes* find_times(const DeviceProfile& profile, int head_dim) {
  for (const HeadDimTimes& times : profile.head_dims)
    if (times.head_dim == head_dim) return &times;
  return nullptr;
}

}  // namespace mi::search
