#include "libsearch/report/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libsearch/report/paint.h"

namespace mi::search {
namespace {

using runtime::HeadConfig;
using runtime::HeadEntry;
using runtime::Pattern;

constexpr std::array kPatterns = {Pattern::dense,          Pattern::a_shape,
                                  Pattern::vertical_slash, Pattern::block_sparse,
                                  Pattern::stripe,         Pattern::stripe_vertical_slash};
// Below these a head has lost a fifth, a tenth of its attention mass: worth a look.
constexpr double kLowRecall = 0.8;
constexpr double kMediumRecall = 0.9;

// The text of a recall, in the colour of how bad it is.
std::string by_recall(const Painter& painter, double recall, std::string_view text) {
  if (recall < kLowRecall) return painter.red(text);
  if (recall < kMediumRecall) return painter.yellow(text);
  return std::string(text);
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
  if (!model.attention_layers.empty())
    out += fmt::format("{:<12}the model's layers {}; the others see a window\n", "",
                       fmt::join(model.attention_layers, ", "));
  out += fmt::format("{:<12}{} of dense\n{:<12}{} on the calibration samples\n", "limit",
                     percent_text(config.limit.share), "executes",
                     shares_by_length(config.limit.achieved));
  out += fmt::format("{:<12}{}, objective {}{}\n", "allocation", printable(config.limit.allocation),
                     printable(config.limit.objective), gap_text(config.limit));
  const HeadConfig::Quality& quality = config.quality;
  out += fmt::format(
      "{:<12}mean {:.4f}   p05 of heads {:.4f}   last rows {:.4f}\n"
      "{:<12}worst head and sample {:.4f}\n",
      "recall", quality.recall_mean, quality.recall_p05, quality.recall_last, "",
      quality.recall_min);
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
  const HeadEntry& head = entry_at(config, place);
  const std::string start = fmt::format("{:>6}", place_text(place));
  const std::string recall = fmt::format("  {:.4f}", head.recall);
  std::string rest = fmt::format("  {:<21} {}", to_string(head.pattern), parameters_text(head));
  rest.erase(rest.find_last_not_of(' ') + 1);
  const int used = static_cast<int>(start.size() + recall.size());
  return start + by_recall(painter, head.recall, recall) +
         cut_text(rest, static_cast<size_t>(std::max(width - used, 0))) + "\n";
}

constexpr std::string_view kRowHead = "  head  recall  pattern               parameters\n";

std::string lengths_note(const HeadConfig& config) {
  if (config.calibration.lengths.size() < 2) return "";
  std::string lengths;
  for (const int64_t length : config.calibration.lengths)
    lengths += fmt::format("{}{}", lengths.empty() ? "" : "/", length);
  return fmt::format("a/b: at {} tokens\n", lengths);
}

std::string certificate(const HeadConfig& config, const Painter& painter) {
  constexpr double kShown = 5e-5;  // of a share, as printed
  std::string out = painter.bold("Certificate") + " (held-out samples, run sparse)\n";
  if (!config.quality.held_out && config.calibration.held_out.empty())
    return out + "  none: no samples were held out (a capture cannot run a config)\n";
  if (!config.quality.held_out)
    return out +
           "  none for this budget: mi-inspect verify CONFIG --model M --text FILE\n  measures "
           "one\n";
  const runtime::HeldOut& held_out = *config.quality.held_out;
  out += fmt::format("  {:<18}{:.4f}\n", "recall", held_out.recall_mean);
  out += fmt::format("  {:<18}{:.4g} of the residual stream, squared\n", "output error",
                     held_out.output_error);
  out += fmt::format("  {:<18}{:.4g} nats per token\n", "KL(dense, sparse)", held_out.logit_kl);
  out += fmt::format("  {:<18}{:.2f} %\n", "same top token", 100 * held_out.top1_agreement);
  out += fmt::format("  {:<18}{}\n", "executed", shares_by_length(held_out.achieved));
  const bool above =
      std::any_of(held_out.achieved.begin(), held_out.achieved.end(),
                  [&](const auto& at) { return at.second > config.limit.share + kShown; });
  if (above)
    out += "  The limit holds on the calibration samples; others may execute slightly more.\n";
  return out;
}

std::string warnings_text(const HeadConfig& config, const Painter& painter) {
  if (config.warnings.empty()) return "";
  std::string out = painter.bold("Warnings") + "\n";
  for (const std::string& warning : config.warnings)
    out += fmt::format("  {}\n", printable(warning));
  return out + "\n";
}

// Figures of both configs, side by side.
std::string diff_figures(const HeadConfig& a, const HeadConfig& b, const Painter& painter) {
  const auto line = [](std::string_view name, std::string_view left, std::string_view right) {
    return fmt::format("{:<24}{:<26}  {}\n", name, left, right);
  };
  const auto number = [&](std::string_view name, double HeadConfig::Quality::*value) {
    return line(name, fmt::format("{:.4f}", a.quality.*value),
                fmt::format("{:.4f}", b.quality.*value));
  };
  const auto certified = [&](std::string_view name, auto text) {
    return line(name, a.quality.held_out ? text(*a.quality.held_out) : "not certified",
                b.quality.held_out ? text(*b.quality.held_out) : "not certified");
  };
  std::string out = painter.bold(line("", "A", "B"));
  out += line("limit", percent_text(a.limit.share), percent_text(b.limit.share));
  std::map<int64_t, double> lengths = a.limit.achieved;
  lengths.insert(b.limit.achieved.begin(), b.limit.achieved.end());
  const auto executes = [](const HeadConfig& config, int64_t length) {
    const auto found = config.limit.achieved.find(length);
    return found == config.limit.achieved.end() ? "not measured" : percent_text(found->second);
  };
  for (const auto& [length, share] : lengths)
    out += line(fmt::format("executes at {}", length), executes(a, length), executes(b, length));
  out += number("recall, mean", &HeadConfig::Quality::recall_mean);
  out += number("  p05 of heads", &HeadConfig::Quality::recall_p05);
  out += number("  worst head and sample", &HeadConfig::Quality::recall_min);
  out += number("  last rows", &HeadConfig::Quality::recall_last);
  out += certified("KL(dense, sparse)", [](const runtime::HeldOut& held_out) {
    return fmt::format("{:.4g}", held_out.logit_kl);
  });
  out += certified("same top token", [](const runtime::HeldOut& held_out) {
    return percent_text(held_out.top1_agreement);
  });
  const auto kernel = [](const HeadConfig& config) {
    return fmt::format("last {}, dense below {}", config.kernel.last, config.kernel.dense_below);
  };
  return out + line("kernel", kernel(a), kernel(b));
}

}  // namespace

std::string percent_text(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

std::string shares_by_length(const std::map<int64_t, double>& shares) {
  std::string out;
  for (const auto& [length, share] : shares)
    out += fmt::format("{}{} at {}", out.empty() ? "" : ", ", percent_text(share), length);
  return out.empty() ? "not measured" : out;
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

std::string heads_table(const HeadConfig& config, const std::vector<HeadPlace>& places,
                        TextStyle style) {
  const Painter painter(style.colour);
  std::string out(kRowHead);
  for (const HeadPlace place : places) out += head_row(config, place, style.width, painter);
  return out + lengths_note(config);
}

std::string diff_table(const HeadConfig& a, const HeadConfig& b,
                       const std::vector<HeadPlace>& places, TextStyle style) {
  const Painter painter(style.colour);
  std::string out = diff_figures(a, b, painter);
  const std::vector<HeadPlace> different = different_heads(a, b);
  const auto by_cap = std::count_if(different.begin(), different.end(), [&](HeadPlace place) {
    return differs_by_cap(entry_at(a, place), entry_at(b, place));
  });
  size_t heads = 0;
  for (const auto& layer : a.layers) heads += layer.size();
  out += fmt::format("\n{}: {} of {}", painter.bold("Heads that run otherwise"), different.size(),
                     heads);
  out += by_cap > 0 ? fmt::format(", {} of them only by their caps (share)\n", by_cap) : "\n";
  if (places.empty()) return out;
  const auto cell = [](const HeadEntry& head) {
    const std::string parameters = parameters_text(head);
    return fmt::format("{:.4f} {}{}{}", head.recall, to_string(head.pattern),
                       parameters.empty() ? "" : " ", parameters);
  };
  constexpr std::string_view kLeft = "recall and what runs in A";
  size_t widest = kLeft.size();
  for (const HeadPlace place : places) widest = std::max(widest, cell(entry_at(a, place)).size());
  const size_t most = static_cast<size_t>(std::max(20, (style.width - 19) / 2));
  const size_t width = std::min(widest, most);
  out += fmt::format("{:>6}  {:>7}  {:<{}}  {}\n", "head", "gain", kLeft, width, "in B");
  for (const HeadPlace place : places) {
    const HeadEntry& before = entry_at(a, place);
    const HeadEntry& after = entry_at(b, place);
    out += fmt::format("{:>6}  {:>+7.4f}  {:<{}}  {}\n", place_text(place),
                       after.recall - before.recall, cut_text(cell(before), width), width,
                       cut_text(cell(after), most));
  }
  const std::string note_a = lengths_note(a);
  const std::string note_b = lengths_note(b);
  if (note_a == note_b) return out + note_a;
  return out + (note_a.empty() ? "" : "A: " + note_a) + (note_b.empty() ? "" : "B: " + note_b);
}

}  // namespace mi::search
