// From answers and losses to what can be said about them: differences with their intervals, and
// whether a task says anything at all.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "libsearch/eval/evaluate.h"
#include "libsearch/eval/interval.h"

namespace mi::search {

// A task that dense attention itself fails is no measure of what sparsity loses.
inline constexpr double kLeastDenseRight = 0.8;

enum class Verdict {
  same,            // no question, no position told the two apart
  not_told_apart,  // the interval contains no difference
  worse,
  better,
  not_judged,
};
[[nodiscard]] std::string_view to_string(Verdict verdict);

// Medians over the prompts; the speed-up is that of the prompts' own ratios.
struct CostSummary {
  double dense_seconds = 0;
  double sparse_seconds = 0;
  double speed_up = 0;
  double attention_speed_up = 0;
  double share = 0;  // executed, mean
};

struct RightSummary {
  int64_t dense = 0;
  int64_t sparse = 0;
  Interval difference;  // of the shares right
  Verdict verdict = Verdict::not_judged;
};

struct CellSummary {
  int64_t questions = 0;
  int64_t cut = 0;
  RightSummary right;
  RightSummary decoded;     // when it was
  double dense_tokens = 0;  // share of the answers' tokens that are right
  double sparse_tokens = 0;
  double dense_logp = 0;  // of a whole answer, mean
  double sparse_logp = 0;
  Interval logp_difference;
  CostSummary cost;
};
[[nodiscard]] CellSummary summarize(const CellResult& cell);

struct DepthCount {
  int64_t questions = 0;
  int64_t dense = 0;
  int64_t sparse = 0;
};
// Right answers by depth; empty for tasks without.
[[nodiscard]] std::vector<DepthCount> by_depth(const CellResult& cell);

// Positions [begin, end) of windows of one length.
struct PositionSummary {
  int64_t begin = 0;
  int64_t end = 0;
  double dense_perplexity = 0;
  double sparse_perplexity = 0;
  Interval change;  // relative, of the perplexity: 0.01 is a hundredth more
  Verdict verdict = Verdict::not_judged;
};
struct WindowSummary {
  int64_t length = 0;
  int64_t windows = 0;
  std::vector<PositionSummary> positions;  // by powers of two below the length, from the start
  PositionSummary all;                     // up to the trained context
  CostSummary cost;
};
// Per length, in the order they come. Intervals are over blocks of 256 positions; positions past
// `context` are not judged.
[[nodiscard]] std::vector<WindowSummary> summarize(const std::vector<WindowResult>& windows,
                                                   int64_t context);

}  // namespace mi::search
