// The canonical text of a head-config: fixed key order, one line per head and per sample, shortest
// numbers that read back as the same double.
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libruntime/config.h"
#include "libruntime/yaml_writer.h"

namespace mi::runtime {
namespace {

std::string per_length(const std::map<int64_t, double>& values, bool scalar_allowed) {
  if (scalar_allowed && values.size() == 1 && values.begin()->first == 0)
    return yaml_number(values.begin()->second);
  std::string out = "{";
  for (const auto& [length, value] : values)
    out += fmt::format("{}{}: {}", out.size() > 1 ? ", " : "", length, yaml_number(value));
  return out + "}";
}

bool takes_sink(const HeadEntry& head) {
  const bool counts = !head.vertical.empty() || !head.slash.empty() || !head.blocks.empty();
  return head.pattern != Pattern::dense && !counts;
}

std::string head_line(int index, const HeadEntry& head) {
  YamlLine line;
  line.add("head", index).add("pattern", std::string(to_string(head.pattern)));
  const bool antidiagonal = head.estimate == BlockEstimate::antidiagonal;
  if (head.pattern == Pattern::block_sparse || antidiagonal)
    line.add("estimate", std::string(to_string(head.estimate)));
  if (antidiagonal) line.add("stride", head.stride);
  if (takes_sink(head) || head.sink != 0) line.add("sink", head.sink);
  const auto add = [&](std::string_view key, const PerLength& values) {
    if (!values.empty()) line.add(key, per_length(values, true));
  };
  add("local", head.local);
  add("density", head.density);
  add("share", head.share);
  add("vertical", head.vertical);
  add("slash", head.slash);
  add("blocks", head.blocks);
  return line.add("recall", head.recall).map();
}

std::string samples(const std::vector<SampleNote>& notes) {
  if (notes.empty()) return " []\n";
  std::string out = "\n";
  for (const SampleNote& note : notes) {
    YamlLine line;
    line.add("source", yaml_text(note.source)).add("tokens", note.tokens);
    out += "  - " + line.add("sha256", yaml_text(note.sha256)).map() + "\n";
  }
  return out;
}

std::string calibration(const HeadConfig::Calibration& data) {
  std::string lengths;
  for (const int64_t length : data.lengths)
    lengths += fmt::format("{}{}", lengths.empty() ? "" : ", ", length);
  return fmt::format("calibration:\n  lengths: [{}]\n  samples:{}  held_out:{}", lengths,
                     samples(data.samples), samples(data.held_out));
}

std::string quality(const HeadConfig::Quality& data) {
  YamlLine line;
  line.add("recall_mean", data.recall_mean).add("recall_p05", data.recall_p05);
  line.add("recall_min", data.recall_min).add("recall_last", data.recall_last);
  if (data.held_out) {
    const HeldOut& held_out = *data.held_out;
    YamlLine inner;
    inner.add("recall_mean", held_out.recall_mean).add("output_error", held_out.output_error);
    inner.add("logit_kl", held_out.logit_kl).add("top1_agreement", held_out.top1_agreement);
    line.add("held_out", inner.add("achieved", per_length(held_out.achieved, false)).map());
  }
  return line.map();
}

}  // namespace

std::string dump_config(const HeadConfig& config) {
  YamlLine model;
  model.add("name", yaml_text(config.model.name))
      .add("architecture", yaml_text(config.model.architecture));
  model.add("layers", config.model.layers).add("heads", config.model.heads);
  model.add("kv_heads", config.model.kv_heads).add("head_dim", config.model.head_dim);
  model.add("rope_theta", config.model.rope_theta);
  if (config.model.scale > 0) model.add("scale", config.model.scale);
  if (config.model.softcap > 0) model.add("softcap", config.model.softcap);
  if (!config.model.attention_layers.empty())
    model.add("attention_layers",
              fmt::format("[{}]", fmt::join(config.model.attention_layers, ", ")));
  model.add("fingerprint", yaml_text(config.model.fingerprint));
  YamlLine producer;
  producer.add("tool", yaml_text(config.producer.tool))
      .add("backend", yaml_text(config.producer.backend));
  producer.add("seed", config.producer.seed).add("options", yaml_text(config.producer.options));
  YamlLine limit;
  limit.add("share", config.limit.share).add("achieved", per_length(config.limit.achieved, false));
  limit.add("objective", yaml_text(config.limit.objective));
  limit.add("allocation", yaml_text(config.limit.allocation)).add("gap", config.limit.gap);
  if (config.limit.loss > 0) limit.add("loss", config.limit.loss);
  YamlLine kernel;
  kernel.add("block", config.kernel.block).add("tile", config.kernel.tile);
  kernel.add("last", config.kernel.last);
  if (config.kernel.dense_below > 0) kernel.add("dense_below", config.kernel.dense_below);

  std::string out = fmt::format("schema: mi.head_config\nschema_version: {}\n", kHeadConfigVersion);
  out += "model: " + model.map() + "\nproducer: " + producer.map() + "\n";
  out += calibration(config.calibration);
  out += "limit: " + limit.map() + "\nquality: " + quality(config.quality) + "\n";
  if (!config.warnings.empty()) {
    out += "warnings:\n";
    for (const std::string& warning : config.warnings) out += "- " + yaml_text(warning) + "\n";
  }
  out += "kernel: " + kernel.map() + "\nlayers:" + (config.layers.empty() ? " []\n" : "\n");
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    out += fmt::format("- layer: {}\n  heads:{}", layer,
                       config.layers[layer].empty() ? " []\n" : "\n");
    for (size_t head = 0; head < config.layers[layer].size(); ++head)
      out += "  - " + head_line(static_cast<int>(head), config.layers[layer][head]) + "\n";
  }
  return out;
}

}  // namespace mi::runtime
