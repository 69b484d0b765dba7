#include "libruntime/resolve.h"

#include <cmath>

namespace mi::runtime {
namespace {

bool outside(const PerLength& values, int64_t length) {
  if (values.empty() || values.begin()->first == 0) return false;
  return length < values.begin()->first || length > values.rbegin()->first;
}

// Where a pattern breaks even, relative to dense_below, which is about stripe+vertical_slash.
// Measured from 128 tokens up at head dims 64 and 128 (mi-bench sweep, Sapphire Rapids).
double break_even(const HeadEntry& entry) {
  switch (entry.pattern) {
    case Pattern::dense:
    case Pattern::a_shape:  // nothing is estimated
      return 0;
    case Pattern::stripe:
      return 0.5;
    case Pattern::block_sparse:
      return entry.estimate == BlockEstimate::pooled ? 0.5 : 1.6;
    case Pattern::vertical_slash:
      return 0.8;
    case Pattern::stripe_vertical_slash:
      return 1;
  }
  return 1;
}

}  // namespace

double value_at(const PerLength& values, int64_t length) {
  const auto above = values.lower_bound(length);
  if (above == values.end()) return values.rbegin()->second;
  if (above == values.begin() || above->first == length) return above->second;
  const auto below = std::prev(above);
  if (below->first == 0) return below->second;
  const double position =
      (std::log(static_cast<double>(length)) - std::log(static_cast<double>(below->first))) /
      (std::log(static_cast<double>(above->first)) - std::log(static_cast<double>(below->first)));
  if (below->second <= 0 || above->second <= 0)
    return below->second + position * (above->second - below->second);
  return below->second * std::pow(above->second / below->second, position);
}

Result<ResolvedHead> resolve_head(const HeadEntry& entry, const HeadConfig::Kernel& kernel,
                                  int64_t length) {
  ResolvedHead head;
  if (static_cast<double>(length) < break_even(entry) * static_cast<double>(kernel.dense_below)) {
    head.is_short = true;
    return head;
  }
  EstimatorParams& params = head.params;
  params.pattern = entry.pattern;
  params.estimate = entry.estimate;
  params.stride = entry.stride;
  params.sink = entry.sink;
  params.last = kernel.last;
  if (!entry.local.empty())
    params.local = static_cast<int64_t>(std::llround(value_at(entry.local, length)));
  if (!entry.share.empty()) head.share = value_at(entry.share, length);
  head.beyond_range = outside(entry.density, length) || outside(entry.share, length) ||
                      outside(entry.local, length) || outside(entry.vertical, length) ||
                      outside(entry.slash, length) || outside(entry.blocks, length);

  if (entry.pattern == Pattern::block_sparse && entry.estimate == BlockEstimate::antidiagonal &&
      !is_stride(entry.stride))
    return fail(Code::invalid_argument, "block_sparse: antidiagonal stride is " +
                                            std::to_string(entry.stride) + ", expected 8 or 16");
  if (!entry.vertical.empty() || !entry.slash.empty()) {
    params.counts = true;
    params.vertical = entry.vertical.empty() ? 0 : std::round(value_at(entry.vertical, length));
    params.slash = entry.slash.empty() ? 0 : std::round(value_at(entry.slash, length));
    head.lambda = 1;
  } else if (!entry.blocks.empty()) {
    params.counts = true;
    const double blocks = std::round(value_at(entry.blocks, length));
    if (!(blocks >= 1))
      return fail(Code::invalid_argument,
                  "block_sparse: blocks is " + std::to_string(blocks) + ", expected at least 1");
    head.lambda = static_cast<float>(1 / blocks);
  } else if (entry.pattern == Pattern::a_shape) {
    // Its estimate falls with distance, so the window is a threshold as well.
    if (params.local <= 0)
      return fail(
          Code::invalid_argument,
          "a_shape: local window is " + std::to_string(params.local) + ", expected at least 1");
    head.lambda = 1.0f / static_cast<float>(params.local);
    params.local = 0;
  } else if (!entry.density.empty()) {
    head.lambda = static_cast<float>(value_at(entry.density, length));
  } else if (entry.pattern != Pattern::dense) {
    if (!head.share)
      return fail(Code::invalid_argument,
                  std::string(to_string(entry.pattern)) +
                      ": neither density nor share nor counts are given, expected one of them");
    head.spend_share = true;
  }
  if (head.beyond_range && head.share && entry.pattern != Pattern::dense) head.spend_share = true;
  return head;
}

}  // namespace mi::runtime
