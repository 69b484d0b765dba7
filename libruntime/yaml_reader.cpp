#include "libruntime/yaml_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::runtime {
namespace {

const YamlNode& nothing() {
  static const YamlNode node;
  return node;
}

template <class T>
bool parse_all(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string to_text(IntegerRange range) {
  const bool below = range.least != std::numeric_limits<int64_t>::min();
  const bool above = range.most != std::numeric_limits<int64_t>::max();
  if (below && above) return fmt::format("an integer from {} to {}", range.least, range.most);
  if (below) return fmt::format("an integer of at least {}", range.least);
  if (above) return fmt::format("an integer of at most {}", range.most);
  return "an integer";
}

std::string to_text(RealRange range) {
  if (std::isfinite(range.most))
    return fmt::format("a number in {}{}, {}]", range.without_least ? '(' : '[', range.least,
                       range.most);
  if (std::isfinite(range.least))
    return fmt::format("a number {} {}", range.without_least ? "above" : "of at least",
                       range.least);
  return "a finite number";
}

}  // namespace

void YamlErrors::report(const YamlNode& place, std::string_view found, std::string_view expected) {
  if (any()) return;
  first_ = {Code::schema,
            fmt::format("{}:{}:{}: found {}, expected {}", file_name_, std::max(place.line, 1),
                        std::max(place.column, 1), found, expected)};
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::sequence:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
    case YamlNode::Kind::scalar:
      break;
  }
  constexpr size_t kShown = 60;
  std::string text = node.text.substr(0, kShown);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return fmt::format("'{}{}'{}", text, node.text.size() > kShown ? "..." : "",
                     node.quoted ? " in quotes" : "");
}

int64_t read_integer(const YamlNode& node, IntegerRange range, YamlErrors& errors) {
  int64_t value = 0;
  const bool number =
      node.kind == YamlNode::Kind::scalar && !node.quoted && parse_all(node.text, value);
  if (number && value >= range.least && value <= range.most) return value;
  errors.report(node, describe(node), to_text(range));
  return range.least > 0 ? range.least : 0;
}

double read_real(const YamlNode& node, RealRange range, YamlErrors& errors) {
  double value = 0;
  const bool number =
      node.kind == YamlNode::Kind::scalar && !node.quoted && parse_all(node.text, value);
  if (number && std::isfinite(value) && value <= range.most &&
      (range.without_least ? value > range.least : value >= range.least))
    return value;
  errors.report(node, describe(node), to_text(range));
  return 0;
}

std::string read_string(const YamlNode& node, YamlErrors& errors) {
  if (node.kind != YamlNode::Kind::scalar) errors.report(node, describe(node), "text");
  return node.text;
}

const std::vector<YamlNode>& read_list(const YamlNode& node, YamlErrors& errors) {
  if (node.kind == YamlNode::Kind::sequence) return node.items;
  errors.report(node, describe(node), "a list");
  return nothing().items;
}

size_t read_word(const YamlNode& node, std::initializer_list<std::string_view> words,
                 YamlErrors& errors) {
  const auto* found = std::find(words.begin(), words.end(), node.text);
  if (node.kind == YamlNode::Kind::scalar && found != words.end())
    return static_cast<size_t>(found - words.begin());
  errors.report(node, describe(node), fmt::format("one of {}", fmt::join(words, ", ")));
  return 0;
}

YamlMap::YamlMap(const YamlNode& node, std::initializer_list<std::string_view> known,
                 YamlErrors& errors)
    : node_(node.kind == YamlNode::Kind::map ? &node : &nothing()), errors_(errors) {
  if (node.kind != YamlNode::Kind::map) errors.report(node, describe(node), "a map");
  for (const YamlNode& key : node_->keys)
    if (std::find(known.begin(), known.end(), key.text) == known.end())
      errors.report(key, "unknown key " + describe(key),
                    fmt::format("one of {}", fmt::join(known, ", ")));
}

const YamlNode* YamlMap::find_key(std::string_view key) const {
  for (const YamlNode& have : node_->keys)
    if (have.text == key) return &have;
  return nullptr;
}

const YamlNode* YamlMap::find(std::string_view key) const {
  for (size_t i = 0; i < node_->keys.size(); ++i)
    if (node_->keys[i].text == key) return &node_->items[i];
  return nullptr;
}

const YamlNode& YamlMap::need(std::string_view key) const {
  if (const YamlNode* node = find(key)) return *node;
  errors_.report(*node_, fmt::format("no key '{}'", key), "it in this map");
  return nothing();
}

int64_t YamlMap::integer(std::string_view key, IntegerRange range) const {
  return read_integer(need(key), range, errors_);
}

uint64_t YamlMap::unsigned_integer(std::string_view key) const {
  const YamlNode& node = need(key);
  uint64_t value = 0;
  if (node.kind != YamlNode::Kind::scalar || node.quoted || !parse_all(node.text, value))
    errors_.report(node, describe(node), "an integer from 0 to 2^64 - 1");
  return value;
}

double YamlMap::real(std::string_view key, RealRange range) const {
  return read_real(need(key), range, errors_);
}

std::string YamlMap::string(std::string_view key) const {
  return read_string(need(key), errors_);
}

int read_schema(const YamlNode& root, std::string_view schema, int newest, YamlErrors& errors) {
  if (root.kind != YamlNode::Kind::map) {
    errors.report(root, describe(root), fmt::format("a map with schema: {}", schema));
    return 0;
  }
  const auto find = [&](std::string_view key) {
    for (size_t i = 0; i < root.keys.size(); ++i)
      if (root.keys[i].text == key) return &root.items[i];
    errors.report(root, fmt::format("no key '{}'", key), fmt::format("schema: {}", schema));
    return &nothing();
  };
  const YamlNode& name = *find("schema");
  if (name.kind != YamlNode::Kind::scalar || name.text != schema)
    errors.report(name, describe(name), fmt::format("schema {}", schema));
  const YamlNode& version = *find("schema_version");
  const int64_t number = read_integer(version, {1, std::numeric_limits<int32_t>::max()}, errors);
  if (number > newest)
    errors.report(version, fmt::format("schema_version {}", number),
                  fmt::format("at most {}, the newest that this version reads", newest));
  return static_cast<int>(number);
}

}  // namespace mi::runtime
