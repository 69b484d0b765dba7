#include "libsearch/model/spec_check.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "kernels/attention.h"

namespace mi::search {

void set_windows(std::vector<int64_t> windows, ModelSpec& spec) {
  const auto full = std::count(windows.begin(), windows.end(), 0);
  if (full == 0) {
    spec.most_tokens = *std::min_element(windows.begin(), windows.end());
  } else if (full < std::ssize(windows)) {
    spec.layers = static_cast<int>(full);
    for (size_t layer = 0; layer < windows.size(); ++layer)
      if (windows[layer] == 0) spec.attention_layers.push_back(static_cast<int>(layer));
    spec.windows = std::move(windows);
  }
}

Status check_spec(const ModelSpec& spec, const std::string& file) {
  const auto wrong = [&](Code code, std::string_view what) {
    return fail(code, fmt::format("{}: {}", file, what));
  };
  if (spec.heads % spec.kv_heads != 0) {
    return wrong(Code::schema, fmt::format("heads: got {}, expected a multiple of {} KV heads",
                                           spec.heads, spec.kv_heads));
  }
  if (spec.head_dim % 2 != 0 || spec.head_dim > kernels::kMaxHeadDim) {
    return wrong(Code::unsupported, fmt::format("head_dim: got {}, supported: even, up to {}",
                                                spec.head_dim, kernels::kMaxHeadDim));
  }
  if (int64_t{spec.heads} * spec.head_dim > kMaxWidth) {
    return wrong(Code::schema, fmt::format("heads * head_dim: got {} * {}, expected at most {}",
                                           spec.heads, spec.head_dim, kMaxWidth));
  }
  if (!(std::isfinite(spec.rope.theta) && spec.rope.theta > 1)) {
    return wrong(Code::schema,
                 fmt::format("rope_theta: got {}, expected a number above 1", spec.rope.theta));
  }
  if (!(spec.rms_eps >= 0 && spec.rms_eps < 1)) {
    return wrong(Code::schema,
                 fmt::format("rms_norm_eps: got {}, expected from 0 to 1", spec.rms_eps));
  }
  return {};
}

}  // namespace mi::search
