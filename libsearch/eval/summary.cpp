#include "libsearch/eval/summary.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace mi::search {
namespace {

// Losses of neighbouring tokens go together; differences of blocks of this many hardly do.
constexpr int64_t kBlock = 256;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

CostSummary summarize_cost(const std::vector<const PrefillCost*>& dense,
                           const std::vector<const PrefillCost*>& sparse) {
  CostSummary summary;
  std::vector<double> dense_seconds, sparse_seconds, ratios, attention;
  for (size_t i = 0; i < dense.size(); ++i) {
    dense_seconds.push_back(dense[i]->seconds);
    sparse_seconds.push_back(sparse[i]->seconds);
    ratios.push_back(dense[i]->seconds / std::max(1e-9, sparse[i]->seconds));
    attention.push_back(dense[i]->attention_seconds / std::max(1e-9, sparse[i]->attention_seconds));
    summary.share += sparse[i]->share / static_cast<double>(dense.size());
  }
  summary.dense_seconds = median(std::move(dense_seconds));
  summary.sparse_seconds = median(std::move(sparse_seconds));
  summary.speed_up = median(std::move(ratios));
  summary.attention_speed_up = median(std::move(attention));
  return summary;
}

// `more_is_worse`: of losses, unlike of right answers.
Verdict judge(const Interval& difference, bool nothing_differs, bool more_is_worse) {
  if (nothing_differs) return Verdict::same;
  if (difference.low <= 0 && difference.high >= 0) return Verdict::not_told_apart;
  return (difference.low > 0) == more_is_worse ? Verdict::worse : Verdict::better;
}

RightSummary summarize_right(const PairedCounts& counts) {
  RightSummary summary;
  summary.dense = counts.both + counts.first;
  summary.sparse = counts.both + counts.second;
  if (counts.total() == 0) return summary;
  summary.difference = paired_proportions(counts);
  if (static_cast<double>(summary.dense) >= kLeastDenseRight * static_cast<double>(counts.total()))
    summary.verdict = judge(summary.difference, counts.first + counts.second == 0, false);
  return summary;
}

void count(bool dense, bool sparse, PairedCounts& counts) {
  ++(dense ? sparse ? counts.both : counts.first : sparse ? counts.second : counts.neither);
}

PositionSummary summarize_positions(const std::vector<const WindowResult*>& windows, int64_t begin,
                                    int64_t end, int64_t context) {
  PositionSummary summary;
  summary.begin = begin;
  summary.end = end;
  const int64_t first = std::max<int64_t>(1, begin);  // nothing predicts token 0
  const int64_t tokens = end - first;
  if (tokens < 1) return summary;
  const int64_t blocks = std::max<int64_t>(1, tokens / kBlock);
  double dense = 0;
  double sparse = 0;
  bool same = true;
  std::vector<double> differences;
  for (const WindowResult* window : windows) {
    for (int64_t b = 0; b < blocks; ++b) {
      double difference = 0;
      const int64_t from = first + tokens * b / blocks;
      const int64_t to = first + tokens * (b + 1) / blocks;
      for (int64_t position = from; position < to; ++position) {
        const auto at = static_cast<size_t>(position - 1);
        const auto with = static_cast<double>(window->sparse_nll[at]);
        const auto full = static_cast<double>(window->dense_nll[at]);
        dense += full;
        sparse += with;
        difference += with - full;
        same = same && with == full;
      }
      differences.push_back(difference / static_cast<double>(to - from));
    }
  }
  const double values = static_cast<double>(tokens) * static_cast<double>(windows.size());
  summary.dense_perplexity = std::exp(dense / values);
  summary.sparse_perplexity = std::exp(sparse / values);
  const Interval log_change = paired_mean(differences);
  summary.change = {std::expm1(log_change.value), std::expm1(log_change.low),
                    std::expm1(log_change.high)};
  if (end <= context) summary.verdict = judge(summary.change, same, true);
  return summary;
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::same:
      return "same";
    case Verdict::not_told_apart:
      return "not told apart";
    case Verdict::worse:
      return "worse";
    case Verdict::better:
      return "better";
    case Verdict::not_judged:
      return "not judged";
  }
  return "";
}

CellSummary summarize(const CellResult& cell) {
  CellSummary summary;
  summary.questions = std::ssize(cell.questions);
  const auto n = static_cast<double>(cell.questions.size());
  PairedCounts right, decoded;
  double answer_tokens = 0;
  std::vector<double> logp;
  std::vector<const PrefillCost*> dense, sparse;
  for (const AnsweredQuestion& question : cell.questions) {
    count(question.dense.right, question.sparse.right, right);
    count(question.dense.decoded_right, question.sparse.decoded_right, decoded);
    answer_tokens += static_cast<double>(question.answer_tokens);
    summary.dense_tokens += static_cast<double>(question.dense.tokens_right);
    summary.sparse_tokens += static_cast<double>(question.sparse.tokens_right);
    summary.dense_logp += question.dense.logp / n;
    summary.sparse_logp += question.sparse.logp / n;
    summary.cut += question.cut ? 1 : 0;
    logp.push_back(question.sparse.logp - question.dense.logp);
    dense.push_back(&question.dense.cost);
    sparse.push_back(&question.sparse.cost);
  }
  if (cell.questions.empty()) return summary;
  summary.dense_tokens /= answer_tokens;
  summary.sparse_tokens /= answer_tokens;
  summary.right = summarize_right(right);
  summary.decoded = summarize_right(decoded);
  summary.logp_difference = paired_mean(logp);
  summary.cost = summarize_cost(dense, sparse);
  return summary;
}

std::vector<DepthCount> by_depth(const CellResult& cell) {
  std::vector<DepthCount> depths;
  for (const AnsweredQuestion& question : cell.questions) {
    if (question.depth < 0) continue;
    if (std::ssize(depths) <= question.depth)
      depths.resize(static_cast<size_t>(question.depth) + 1);
    DepthCount& at = depths[static_cast<size_t>(question.depth)];
    ++at.questions;
    at.dense += question.dense.right ? 1 : 0;
    at.sparse += question.sparse.right ? 1 : 0;
  }
  return depths;
}

std::vector<WindowSummary> summarize(const std::vector<WindowResult>& windows, int64_t context) {
  std::vector<WindowSummary> summaries;
  for (size_t i = 0; i < windows.size();) {
    const int64_t length = windows[i].length;
    std::vector<const WindowResult*> same;
    std::vector<const PrefillCost*> dense, sparse;
    for (; i < windows.size() && windows[i].length == length; ++i) {
      same.push_back(&windows[i]);
      dense.push_back(&windows[i].dense);
      sparse.push_back(&windows[i].sparse);
    }
    WindowSummary& summary = summaries.emplace_back();
    summary.length = length;
    summary.windows = std::ssize(same);
    // 0, length/8, /4, /2 and the length; the trained context is a bound, too.
    std::set<int64_t> bounds = {0, length / 8, length / 4, length / 2, length};
    if (context < length) bounds.insert(context);
    for (auto bound = bounds.begin(); std::next(bound) != bounds.end(); ++bound)
      summary.positions.push_back(summarize_positions(same, *bound, *std::next(bound), context));
    summary.all = summarize_positions(same, 0, std::min(length, context), context);
    summary.cost = summarize_cost(dense, sparse);
  }
  return summaries;
}

}  // namespace mi::search
