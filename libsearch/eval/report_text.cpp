#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "libsearch/eval/report.h"
#include "libsearch/eval/summary.h"
#include "libsearch/report/paint.h"

namespace mi::search {
namespace {

// Left of every table of this file.
constexpr std::string_view kIndent = "  ";

std::string coloured(const Painter& painter, Verdict verdict) {
  const std::string_view text = to_string(verdict);
  if (verdict == Verdict::worse) return painter.red(text);
  if (verdict == Verdict::better) return painter.green(text);
  return std::string(text);
}

// "+0.42 [-0.10, +0.94] %"; nothing in brackets where one value has no interval.
std::string interval_text(const Interval& interval, std::string_view unit, int digits) {
  const auto value = [&](double x) {
    const double shown = 100 * x;
    // No "-0.0".
    const double half = 0.5 * std::pow(10.0, -digits);
    return fmt::format("{:+.{}f}", std::abs(shown) < half ? 0.0 : shown, digits);
  };
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high))
    return fmt::format("{} {} (one value)", value(interval.value), unit);
  return fmt::format("{} [{}, {}] {}", value(interval.value), value(interval.low),
                     value(interval.high), unit);
}

std::string trimmed_line(std::string line) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line + "\n";
}

std::string heading_text(const EvalHeading& heading) {
  const runtime::HeadConfig& config = *heading.config;
  return fmt::format(
      "config   {}, limit {:.4g} % of dense attention\n"
      "model    {}, trained on {} positions\n"
      "run      {}, {}, {} threads; every prompt dense and sparse in turn{}\n",
      printable(heading.config_file), 100 * config.limit.share, printable(config.model.name),
      heading.context, heading.element, heading.backend, heading.threads,
      heading.chunk > 0 ? fmt::format(", {} tokens at a time", heading.chunk) : "");
}

std::string perplexity_text(const std::vector<WindowSummary>& summaries, const EvalHeading& heading,
                            const Painter& painter) {
  if (summaries.empty()) return "";
  std::string text = "\n" + painter.bold("Perplexity by position") +
                     fmt::format(" ({})\n", printable(heading.texts));
  text += fmt::format("{}{:<10} {:<13} {:>8} {:>8}  {:<25} {}\n", kIndent, "windows", "positions",
                      "dense", "sparse", "change, 95 % interval", "verdict");
  for (const WindowSummary& summary : summaries) {
    std::string windows = fmt::format("{} x {}", summary.windows, summary.length);
    const auto line = [&](const PositionSummary& at, std::string positions) {
      text += trimmed_line(
          fmt::format("{}{:<10} {:<13} {:>8.3f} {:>8.3f}  {:<25} {}", kIndent, windows, positions,
                      at.dense_perplexity, at.sparse_perplexity, interval_text(at.change, "%", 2),
                      at.end > heading.context ? "not judged: past the trained positions"
                                               : coloured(painter, at.verdict)));
      windows.clear();
    };
    for (const PositionSummary& at : summary.positions)
      line(at, fmt::format("{}-{}", at.begin, at.end - 1));
    line(summary.all, summary.all.end < summary.length ? "all trained" : "all");
    const CostSummary& cost = summary.cost;
    text += fmt::format(
        "{}{:<10} prefill {:.2f} s dense, {:.2f} s sparse: speed-up {:.2f} (attention alone "
        "{:.2f}); "
        "executed {:.1f} %\n",
        kIndent, "", cost.dense_seconds, cost.sparse_seconds, cost.speed_up,
        cost.attention_speed_up, 100 * cost.share);
  }
  return text;
}

std::string verdict_text(const RightSummary& right, const Painter& painter) {
  return right.verdict == Verdict::not_judged ? "not judged: dense under 80 %"
                                              : coloured(painter, right.verdict);
}

std::string answers_text(const Evaluation& evaluation, const Painter& painter) {
  if (evaluation.cells.empty()) return "";
  size_t width = 10;  // "multiquery"
  for (const CellResult& cell : evaluation.cells) width = std::max(width, cell.task.size());
  std::string text =
      "\n" + painter.bold("Answers") +
      " (teacher-forced from one prefill; right: every token is the model's first choice)\n";
  text += fmt::format("{}{:<{}} {:>6}        {:>9} {:>7} {:>7} {:>8} {:>8} {:>8}  {}\n", kIndent,
                      "task", width, "tokens", "right", "tokens", "log p", "prefill", "speed-up",
                      "executed", "sparse - dense, 95 %");
  for (const CellResult& cell : evaluation.cells) {
    const CellSummary summary = summarize(cell);
    const auto line = [&](bool sparse, const std::string& task, const std::string& length,
                          const std::string& speed_up, const std::string& share,
                          const std::string& last) {
      text += trimmed_line(
          fmt::format("{}{:<{}} {:>6} {:<6} {:>9} {:>6.1f}% {:>7.3f} {:>6.2f} s {:>8} {:>8}  {}",
                      kIndent, task, width, length, sparse ? "sparse" : "dense",
                      fmt::format("{}/{}", sparse ? summary.right.sparse : summary.right.dense,
                                  summary.questions),
                      100 * (sparse ? summary.sparse_tokens : summary.dense_tokens),
                      sparse ? summary.sparse_logp : summary.dense_logp,
                      sparse ? summary.cost.sparse_seconds : summary.cost.dense_seconds, speed_up,
                      share, last));
    };
    line(false, printable(cell.task), std::to_string(cell.length), "", "",
         verdict_text(summary.right, painter));
    line(true, "", "", fmt::format("{:.2f}", summary.cost.speed_up),
         fmt::format("{:.1f}%", 100 * summary.cost.share),
         interval_text(summary.right.difference, "points", 1));
    if (summary.cut > 0)
      text += fmt::format("{}{:<{}} {} of {} contexts were cut in the middle to {} tokens\n",
                          kIndent, "", width, summary.cut, summary.questions, cell.length);
  }
  return text;
}

std::string decoded_text(const Evaluation& evaluation, const Painter& painter) {
  std::string text = "\n" + painter.bold("Decoded greedily") +
                     " (right: the answer is in the first line written)\n" +
                     fmt::format("{}{:<10} {:>6} {:>9} {:>9}  {:<28} {}\n", kIndent, "task",
                                 "tokens", "dense", "sparse", "sparse - dense, 95 %", "verdict");
  for (const CellResult& cell : evaluation.cells) {
    const CellSummary summary = summarize(cell);
    const auto of = [&](int64_t right) { return fmt::format("{}/{}", right, summary.questions); };
    text += fmt::format("{}{:<10} {:>6} {:>9} {:>9}  {:<28} {}\n", kIndent, printable(cell.task),
                        cell.length, of(summary.decoded.dense), of(summary.decoded.sparse),
                        interval_text(summary.decoded.difference, "points", 1),
                        verdict_text(summary.decoded, painter));
  }
  return text;
}

// Depth down, length across, of every task that was asked at depths.
std::string depths_text(const Evaluation& evaluation, const Painter& painter) {
  std::map<std::string, std::vector<const CellResult*>> tasks;
  for (const CellResult& cell : evaluation.cells)
    if (!by_depth(cell).empty()) tasks[cell.task].push_back(&cell);
  std::string text;
  for (const auto& [task, cells] : tasks) {
    text += "\n" + painter.bold(task + " by depth") +
            " (right of the questions there: dense, sparse)\n" +
            fmt::format("{}{:>6}", kIndent, "depth");
    for (const CellResult* cell : cells) text += fmt::format("  {:>13}", cell->length);
    text += '\n';
    size_t depths = 0;
    for (const CellResult* cell : cells) depths = std::max(depths, by_depth(*cell).size());
    for (size_t depth = 0; depth < depths; ++depth) {
      text +=
          fmt::format("{}{:>4.0f} %", kIndent,
                      100 * depth_at(static_cast<int64_t>(depth), static_cast<int64_t>(depths)));
      for (const CellResult* cell : cells) {
        const std::vector<DepthCount> counts = by_depth(*cell);
        const DepthCount count = depth < counts.size() ? counts[depth] : DepthCount();
        text += fmt::format(
            "  {:>13}", fmt::format("{}, {} of {}", count.dense, count.sparse, count.questions));
      }
      text += '\n';
    }
  }
  return text;
}

}  // namespace

std::string eval_table(const EvalHeading& heading, const Evaluation& evaluation, TextStyle style) {
  const Painter painter(style.colour);
  return heading_text(heading) +
         perplexity_text(summarize(evaluation.windows, heading.context), heading, painter) +
         answers_text(evaluation, painter) +
         (heading.decoded && !evaluation.cells.empty() ? decoded_text(evaluation, painter) : "") +
         depths_text(evaluation, painter);
}

}  // namespace mi::search
