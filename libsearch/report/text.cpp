#include "libsearch/report/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "libsearch/report/paint.h"

namespace mi::search {
namespace {

using runtime::HeadConfig;
using runtime::HeadEntry;
using runtime::Pattern;

constexpr std::array kPatterns = {Pattern::dense,          Pattern::a_shape,
                                  Pattern::vertical_slash, Pattern::block_sparse,
                                  Pattern::stripe,         Pattern::stripe_vertical_slash};
constexpr size_t kWorstHeads = 10;
// Below these a head has lost a fifth, a tenth of its attention mass: worth a look.
constexpr double kLowRecall = 0.8;
constexpr double kMediumRecall = 0.9;

// The text of a recall, in the colour of how bad it is.
std::string by_recall(const Painter& painter, double recall, std::string_view text) {
  if (recall < kLowRecall) return painter.red(text);
  if (recall < kMediumRecall) return painter.yellow(text);
  return std::string(text);
}

std::string cut(std::string text, int width) {
  const auto most = static_cast<size_t>(std::max(width, 4));
  if (text.size() <= most) return text;
  text.resize(most - 3);
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0x80) != 0) text.pop_back();
  return text + "...";
}

std::string percent(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

std::string by_length(const std::map<int64_t, double>& shares) {
  std::string out;
  for (const auto& [length, share] : shares)
    out += fmt::format("{}{} at {}", out.empty() ? "" : ", ", percent(share), length);
  return out.empty() ? "not measured" : out;
}

double layer_recall(const std::vector<HeadEntry>& heads) {
  double sum = 0;
  for (const HeadEntry& head : heads) sum += head.recall;
  return heads.empty() ? 0 : sum / static_cast<double>(heads.size());
}

std::string bar(double recall, int length) {
  const int full = static_cast<int>(std::lround(std::clamp(recall, 0.0, 1.0) * length));
  return std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(length - full), '.');
}

// How much the loss could still fall within the limit, whatever the heads ran.
std::string gap_text(const HeadConfig::Limit& limit) {
  if (limit.allocation != "global") return "";
  if (limit.loss > 0)
    return fmt::format(", within {:.2g} % of the least loss possible",
                       100 * (limit.gap / limit.loss));
  return fmt::format(", gap to the optimum at most {:.2g}", limit.gap);
}

std::string headline(const HeadConfig& config, const Painter& painter) {
  const HeadConfig::Model& model = config.model;
  std::string out =
      fmt::format("{:<12}{}\n{:<12}", "model", painter.bold(printable(model.name)), "");
  out += fmt::format("{}, {} layers x {} heads ({} KV heads), head_dim {}\n",
                     printable(model.architecture), model.layers, model.heads, model.kv_heads,
                     model.head_dim);
  out += fmt::format("{:<12}{} of dense; calibration executes {}\n", "limit",
                     percent(config.limit.share), by_length(config.limit.achieved));
  out += fmt::format("{:<12}{}, objective {}{}\n", "allocation", printable(config.limit.allocation),
                     printable(config.limit.objective), gap_text(config.limit));
  const HeadConfig::Quality& quality = config.quality;
  out +=
      fmt::format("{:<12}mean {:.4f}   p05 {:.4f}   min {:.4f}   last rows {:.4f}\n", "recall",
                  quality.recall_mean, quality.recall_p05, quality.recall_min, quality.recall_last);
  return out;
}

struct Column {
  Pattern pattern;
  std::string_view name;
  int heads = 0;
};

// For terminals in which the full names do not fit.
std::string_view short_name(Pattern pattern) {
  switch (pattern) {
    case Pattern::vertical_slash:
      return "v_slash";
    case Pattern::block_sparse:
      return "block";
    case Pattern::stripe_vertical_slash:
      return "str+vs";
    default:
      return to_string(pattern);
  }
}

std::vector<Column> patterns_used(const HeadConfig& config) {
  std::vector<Column> columns;
  for (const Pattern pattern : kPatterns) {
    Column column{pattern, to_string(pattern)};
    for (const auto& layer : config.layers)
      column.heads +=
          static_cast<int>(std::count_if(layer.begin(), layer.end(), [&](const HeadEntry& head) {
            return head.pattern == pattern;
          }));
    if (column.heads > 0) columns.push_back(column);
  }
  return columns;
}

std::string pattern_mix(const HeadConfig& config, int width, const Painter& painter) {
  std::vector<Column> columns = patterns_used(config);
  const auto header = [&] {
    std::string line = fmt::format("{:>5}", "layer");
    for (const Column& column : columns) line += fmt::format("  {:>6}", column.name);
    return fmt::format("{}  recall", line);
  };
  if (static_cast<int>(header().size()) > width)
    for (Column& column : columns) column.name = short_name(column.pattern);
  const std::string head = header();
  const int room = std::clamp(width - static_cast<int>(head.size()) - 2, 0, 20);
  std::string out = fmt::format("{}\n{}\n", painter.bold("Heads by pattern"), head);
  const auto cell = [](const Column& column, int64_t count) {
    const size_t size = std::max<size_t>(6, column.name.size());
    return count == 0 ? fmt::format("  {:>{}}", ".", size) : fmt::format("  {:>{}}", count, size);
  };
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    const auto& heads = config.layers[layer];
    const double recall = layer_recall(heads);
    out += fmt::format("{:>5}", layer);
    for (const Column& column : columns)
      out += cell(column, std::count_if(heads.begin(), heads.end(), [&](const HeadEntry& entry) {
                    return entry.pattern == column.pattern;
                  }));
    out += by_recall(painter, recall, fmt::format("  {:.4f}", recall));
    out += room >= 5 ? fmt::format("  {}\n", bar(recall, room)) : "\n";
  }
  out += fmt::format("{:>5}", "all");
  for (const Column& column : columns) out += cell(column, column.heads);
  return out + "\n";
}

std::string head_row(const HeadConfig& config, HeadPlace place, int width, const Painter& painter) {
  const HeadEntry& head =
      config.layers[static_cast<size_t>(place.layer)][static_cast<size_t>(place.head)];
  const std::string start = fmt::format("{:>5} {:>4}", place.layer, place.head);
  const std::string recall = fmt::format("  {:.4f}", head.recall);
  std::string rest = fmt::format("  {:<21} {}", to_string(head.pattern), parameters_text(head));
  rest.erase(rest.find_last_not_of(' ') + 1);
  const int used = static_cast<int>(start.size() + recall.size());
  return start + by_recall(painter, head.recall, recall) + cut(rest, width - used) + "\n";
}

constexpr std::string_view kRowHead = "layer head  recall  pattern               parameters\n";

std::string lengths_note(const HeadConfig& config) {
  if (config.calibration.lengths.size() < 2) return "";
  std::string lengths;
  for (const int64_t length : config.calibration.lengths)
    lengths += fmt::format("{}{}", lengths.empty() ? "" : "/", length);
  return fmt::format("a/b: at {} tokens\n", lengths);
}

std::string certificate(const HeadConfig& config, const Painter& painter) {
  std::string out = painter.bold("Certificate") + " (held-out samples, run sparse)\n";
  if (!config.quality.held_out) return out + "  none: the search was not verified\n";
  const runtime::HeldOut& held_out = *config.quality.held_out;
  out += fmt::format("  {:<18}{:.4f}\n", "recall", held_out.recall_mean);
  out += fmt::format("  {:<18}{:.4g} of the residual stream, squared\n", "output error",
                     held_out.output_error);
  out += fmt::format("  {:<18}{:.4g} nats per token\n", "KL(dense, sparse)", held_out.logit_kl);
  out += fmt::format("  {:<18}{:.2f} %\n", "same top token", 100 * held_out.top1_agreement);
  out += fmt::format("  {:<18}{}\n", "executed", by_length(held_out.achieved));
  return out;
}

std::string warnings_text(const HeadConfig& config, const Painter& painter) {
  if (config.warnings.empty()) return "";
  std::string out = painter.bold("Warnings") + "\n";
  for (const std::string& warning : config.warnings)
    out += fmt::format("  {}\n", printable(warning));
  return out + "\n";
}

std::string per_length_text(std::string_view name, const runtime::PerLength& values,
                            double factor) {
  if (values.empty()) return "";
  std::string out;
  for (const auto& [length, value] : values)
    out += fmt::format("{}{:.6g}", out.empty() ? "" : "/", value * factor);
  return fmt::format(", {} {}{}", name, out, factor == 100 ? " %" : "");
}

}  // namespace

std::string parameters_text(const HeadEntry& head) {
  std::string out;
  if (head.pattern == Pattern::block_sparse) {
    out += fmt::format(", {}", to_string(head.estimate));
    if (head.estimate == runtime::BlockEstimate::antidiagonal)
      out += fmt::format(" {}", head.stride);
  }
  if (head.sink != 0) out += fmt::format(", sink {}", head.sink);
  out += per_length_text("local", head.local, 1) + per_length_text("density", head.density, 1);
  out += per_length_text("share", head.share, 100) + per_length_text("vertical", head.vertical, 1);
  out += per_length_text("slash", head.slash, 1) + per_length_text("blocks", head.blocks, 1);
  return out.empty() ? out : out.substr(2);
}

std::vector<HeadPlace> worst_heads(const HeadConfig& config, size_t most) {
  std::vector<HeadPlace> places;
  for (size_t layer = 0; layer < config.layers.size(); ++layer)
    for (size_t head = 0; head < config.layers[layer].size(); ++head)
      places.push_back({static_cast<int>(layer), static_cast<int>(head)});
  const auto recall = [&](HeadPlace place) {
    return config.layers[static_cast<size_t>(place.layer)][static_cast<size_t>(place.head)].recall;
  };
  std::stable_sort(places.begin(), places.end(),
                   [&](HeadPlace a, HeadPlace b) { return recall(a) < recall(b); });
  places.resize(std::min(places.size(), most));
  return places;
}

std::string show_table(const HeadConfig& config, TextStyle style) {
  const Painter painter(style.colour);
  std::string out = headline(config, painter);
  out += fmt::format("\n{}\n", pattern_mix(config, style.width, painter));
  out += fmt::format("{} by recall\n{}", painter.bold("Worst heads"), kRowHead);
  for (const HeadPlace place : worst_heads(config, kWorstHeads))
    out += head_row(config, place, style.width, painter);
  out += fmt::format("{}\n{}{}", lengths_note(config), warnings_text(config, painter),
                     certificate(config, painter));
  return out;
}

std::string heads_table(const HeadConfig& config, TextStyle style) {
  const Painter painter(style.colour);
  std::string out(kRowHead);
  for (size_t layer = 0; layer < config.layers.size(); ++layer)
    for (size_t head = 0; head < config.layers[layer].size(); ++head)
      out +=
          head_row(config, {static_cast<int>(layer), static_cast<int>(head)}, style.width, painter);
  return out + lengths_note(config);
}

}  // namespace mi::search
