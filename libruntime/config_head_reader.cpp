#include "libruntime/config_head_reader.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::runtime {
namespace {

class HeadReader {
 public:
  HeadReader(const YamlMap& map, const std::vector<int64_t>& lengths, YamlErrors& errors)
      : map_(map), lengths_(lengths), errors_(errors) {}

  HeadEntry read() {
    HeadEntry head;
    const YamlNode& pattern = map_.need("pattern");
    head.pattern = pattern_from_string(read_string(pattern, errors_)).value_or(Pattern::dense);
    read_word(
        pattern,
        {"dense", "a_shape", "vertical_slash", "block_sparse", "stripe", "stripe+vertical_slash"},
        errors_);
    head.recall = map_.real("recall", kFraction);
    switch (head.pattern) {
      case Pattern::dense:
        allow({});
        break;
      case Pattern::a_shape:
        allow({"sink", "local", "share"});
        read_forced(head, 1);
        read_cap(head);
        break;
      case Pattern::vertical_slash:
        if (!read_counts(head, {"vertical", "slash", "share"}))
          read_estimated(head, {"sink", "local", "density", "share"});
        break;
      case Pattern::block_sparse:
        read_block_estimate(head);
        if (!read_counts(head, {"estimate", "stride", "blocks", "share"}))
          read_estimated(head, {"estimate", "stride", "sink", "local", "density", "share"});
        break;
      case Pattern::stripe:
      case Pattern::stripe_vertical_slash:
        read_estimated(head, {"sink", "local", "density", "share"});
        break;
    }
    return head;
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  // Refuses a parameter that the pattern, in the form this head uses it, does not take.
  void allow(Words words, std::string_view form = "") {
    const std::string& pattern = map_.need("pattern").text;
    for (const YamlNode& key : map_.node().keys) {
      if (key.text == "head" || key.text == "pattern" || key.text == "recall") continue;
      if (std::find(words.begin(), words.end(), key.text) != words.end()) continue;
      errors_.report(key, describe(key),
                     words.size() == 0
                         ? fmt::format("no parameters for {}", pattern)
                         : fmt::format("only {} for {}{}", fmt::join(words, ", "), pattern, form));
    }
  }

  // The published counts form, when any of its keys is there; all of them are needed then.
  bool read_counts(HeadEntry& head, Words words) {
    if (!map_.find("vertical") && !map_.find("slash") && !map_.find("blocks")) return false;
    allow(words, " by counts");
    if (head.pattern == Pattern::block_sparse) {
      head.blocks = counts("blocks", 1);
    } else {
      head.vertical = counts("vertical", 0);
      head.slash = counts("slash", 0);
    }
    read_cap(head);
    return true;
  }

  void read_estimated(HeadEntry& head, Words words) {
    allow(words);
    read_forced(head);
    if (map_.find("density")) head.density = values("density", kPositive);
    read_cap(head);
    if (head.density.empty() && head.share.empty())
      errors_.report(map_.node(), "no budget", "density, share, or both");
  }

  // What a prompt may cost at most, whatever else selects its keys.
  void read_cap(HeadEntry& head) {
    if (map_.find("share")) head.share = values("share", kShare);
  }

  void read_forced(HeadEntry& head, int64_t least_local = 0) {
    head.sink = map_.integer("sink", {0, kMaxTokens});
    head.local = counts("local", least_local);
  }

  void read_block_estimate(HeadEntry& head) {
    const YamlNode* stride = map_.find("stride");
    if (read_word(map_.need("estimate"), {"pooled", "antidiagonal"}, errors_) == 0) {
      if (stride) errors_.report(*map_.find_key("stride"), "a stride", "none for pooled");
      return;
    }
    head.estimate = BlockEstimate::antidiagonal;
    head.stride = static_cast<int>(map_.integer("stride", {8, 16}));
    if (stride && !is_stride(head.stride)) errors_.report(*stride, describe(*stride), "8 or 16");
  }

  // A number for all lengths, or one per calibrated length.
  PerLength values(std::string_view key, RealRange range) {
    const YamlNode& node = map_.need(key);
    if (node.kind != YamlNode::Kind::map) return {{0, read_real(node, range, errors_)}};
    if (node.keys.empty()) errors_.report(node, "an empty map", "a value for a calibrated length");
    return read_by_length(node, lengths_, range, errors_);
  }
  PerLength counts(std::string_view key, int64_t least) {
    const YamlNode& node = map_.need(key);
    if (node.kind == YamlNode::Kind::map)
      for (const YamlNode& item : node.items) read_integer(item, {least, kMaxTokens}, errors_);
    else
      read_integer(node, {least, kMaxTokens}, errors_);
    return values(key, kNotNegative);
  }

  const YamlMap& map_;
  const std::vector<int64_t>& lengths_;
  YamlErrors& errors_;
};

}  // namespace

std::map<int64_t, double> read_by_length(const YamlNode& node, const std::vector<int64_t>& lengths,
                                         RealRange range, YamlErrors& errors) {
  std::map<int64_t, double> values;
  if (node.kind != YamlNode::Kind::map) {
    errors.report(node, describe(node), "a map by length");
    return values;
  }
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const int64_t length = read_integer(node.keys[i], {1, kMaxTokens}, errors);
    if (!std::binary_search(lengths.begin(), lengths.end(), length))
      errors.report(node.keys[i], "length " + describe(node.keys[i]), "one of calibration.lengths");
    // "64" and "064" are two keys to YAML and one length here.
    if (!values.emplace(length, read_real(node.items[i], range, errors)).second)
      errors.report(node.keys[i], "length " + describe(node.keys[i]) + " again", "it once");
  }
  return values;
}

HeadEntry read_head(const YamlMap& map, const std::vector<int64_t>& lengths, YamlErrors& errors) {
  return HeadReader(map, lengths, errors).read();
}

}  // namespace mi::runtime
