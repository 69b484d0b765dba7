// The canonical text of a head-config: fixed key order, one line per head and per sample, shortest
// numbers that read back as the same double.
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "libruntime/config.h"

namespace mi::runtime {
namespace {

// Shortest digits; no exponent for the magnitudes people write without one, and none for an
// integer, so that counts read as counts.
std::string number(double value) {
  const double size = std::abs(value);
  const bool fixed = size == 0 || (size >= 1e-4 && size < 1e15);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  return {buffer, end.ptr};
}

bool is_plain(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !letter(text.front())) return false;
  // ':' and '+' are safe between letters and digits only; a blank only in single file.
  for (size_t i = 1; i < text.size(); ++i) {
    const char c = text[i];
    const bool inner = c == ':' || c == '+' || c == ' ' || c == '-' || c == '.' || c == '/';
    if (inner && (i + 1 == text.size() || !(letter(text[i + 1]) || digit(text[i + 1]))))
      return false;
    if (!inner && !letter(c) && !digit(c) && c != '_') return false;
  }
  for (const std::string_view word :
       {"null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE",
        "yes",  "Yes",  "YES",  "no",   "No",   "NO",   "on",    "On",    "ON",
        "off",  "Off",  "OFF",  "y",    "Y",    "n",    "N"})
    if (text == word) return false;
  return true;
}

std::string quote(std::string_view text) {
  if (is_plain(text)) return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string per_length(const std::map<int64_t, double>& values, bool scalar_allowed) {
  if (scalar_allowed && values.size() == 1 && values.begin()->first == 0)
    return number(values.begin()->second);
  std::string out = "{";
  for (const auto& [length, value] : values)
    out += fmt::format("{}{}: {}", out.size() > 1 ? ", " : "", length, number(value));
  return out + "}";
}

// The keys of one flow map, in the order they are added.
class Line {
 public:
  Line& add(std::string_view key, const std::string& value) {
    text_ += fmt::format("{}{}: {}", text_.empty() ? "" : ", ", key, value);
    return *this;
  }
  Line& add(std::string_view key, double value) { return add(key, number(value)); }
  Line& add(std::string_view key, const PerLength& values) {
    return values.empty() ? *this : add(key, per_length(values, true));
  }
  template <class Integer>
  requires std::is_integral_v<Integer> Line& add(std::string_view key, Integer value) {
    return add(key, fmt::format("{}", value));
  }
  [[nodiscard]] std::string map() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

bool takes_sink(const HeadEntry& head) {
  const bool counts = !head.vertical.empty() || !head.slash.empty() || !head.blocks.empty();
  return head.pattern != Pattern::dense && !counts;
}

std::string head_line(int index, const HeadEntry& head) {
  Line line;
  line.add("head", index).add("pattern", std::string(to_string(head.pattern)));
  const bool antidiagonal = head.estimate == BlockEstimate::antidiagonal;
  if (head.pattern == Pattern::block_sparse || antidiagonal)
    line.add("estimate", std::string(to_string(head.estimate)));
  if (antidiagonal) line.add("stride", head.stride);
  if (takes_sink(head) || head.sink != 0) line.add("sink", head.sink);
  line.add("local", head.local).add("density", head.density).add("share", head.share);
  line.add("vertical", head.vertical).add("slash", head.slash).add("blocks", head.blocks);
  return line.add("recall", head.recall).map();
}

std::string samples(const std::vector<SampleNote>& notes) {
  if (notes.empty()) return " []\n";
  std::string out = "\n";
  for (const SampleNote& note : notes) {
    Line line;
    line.add("source", quote(note.source)).add("tokens", note.tokens);
    out += "  - " + line.add("sha256", quote(note.sha256)).map() + "\n";
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
  Line line;
  line.add("recall_mean", data.recall_mean).add("recall_p05", data.recall_p05);
  line.add("recall_min", data.recall_min).add("recall_last", data.recall_last);
  if (data.held_out) {
    const HeldOut& held_out = *data.held_out;
    Line inner;
    inner.add("recall_mean", held_out.recall_mean).add("output_error", held_out.output_error);
    inner.add("logit_kl", held_out.logit_kl).add("top1_agreement", held_out.top1_agreement);
    line.add("held_out", inner.add("achieved", per_length(held_out.achieved, false)).map());
  }
  return line.map();
}

}  // namespace

std::string dump_config(const HeadConfig& config) {
  Line model;
  model.add("name", quote(config.model.name)).add("architecture", quote(config.model.architecture));
  model.add("layers", config.model.layers).add("heads", config.model.heads);
  model.add("kv_heads", config.model.kv_heads).add("head_dim", config.model.head_dim);
  model.add("rope_theta", config.model.rope_theta);
  model.add("fingerprint", quote(config.model.fingerprint));
  Line producer;
  producer.add("tool", quote(config.producer.tool)).add("backend", quote(config.producer.backend));
  producer.add("seed", config.producer.seed).add("options", quote(config.producer.options));
  Line limit;
  limit.add("share", config.limit.share).add("achieved", per_length(config.limit.achieved, false));
  limit.add("objective", quote(config.limit.objective));
  limit.add("allocation", quote(config.limit.allocation)).add("gap", config.limit.gap);
  Line kernel;
  kernel.add("block", config.kernel.block).add("tile", config.kernel.tile);
  kernel.add("last", config.kernel.last);

  std::string out = fmt::format("schema: mi.head_config\nschema_version: {}\n", kHeadConfigVersion);
  out += "model: " + model.map() + "\nproducer: " + producer.map() + "\n";
  out += calibration(config.calibration);
  out += "limit: " + limit.map() + "\nquality: " + quality(config.quality) + "\n";
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
