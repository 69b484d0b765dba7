// Strict reading of our small YAML files: every refusal is one line "file:line:column: found X,
// expected Y". The tree is our own, so that yaml-cpp stays out of headers, keys keep their place
// and order, and duplicate keys, anchors, aliases and tags can be refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::runtime {

struct YamlNode {
  enum class Kind { null, scalar, sequence, map };
  Kind kind = Kind::null;
  bool quoted = false;  // a quoted scalar is text, never a number
  int line = 0;         // from 1
  int column = 0;
  std::string text;             // scalar
  std::vector<YamlNode> keys;   // map: unique scalars, keys[i] names items[i]
  std::vector<YamlNode> items;  // sequence or map
};

// A config of 128 layers x 128 heads is 3 MiB, 0.4 M nodes, depth 5.
inline constexpr size_t kMaxYamlBytes = size_t{16} << 20;
inline constexpr size_t kMaxYamlNodes = 1'000'000;
inline constexpr size_t kMaxYamlDepth = 32;

[[nodiscard]] Result<YamlNode> parse_yaml(std::string_view text, std::string_view file_name);
// Code::io when it cannot be read or is larger than max_bytes. Of a file that does not begin with
// `begin` only the first bytes.
[[nodiscard]] Result<std::string> read_text_file(const std::filesystem::path& path,
                                                 size_t max_bytes = kMaxYamlBytes,
                                                 std::string_view begin = {});

// Remembers the first error of a file; readers go on with defaults, so that reading code has no
// branches for errors.
class YamlErrors {
 public:
  explicit YamlErrors(std::string_view file_name) : file_name_(file_name) {}
  void report(const YamlNode& place, std::string_view found, std::string_view expected);
  [[nodiscard]] bool any() const { return first_.code != Code::ok; }
  [[nodiscard]] const Status& first() const { return first_; }

 private:
  std::string file_name_;
  Status first_;
};

struct IntegerRange {
  int64_t least = std::numeric_limits<int64_t>::min();
  int64_t most = std::numeric_limits<int64_t>::max();
};
struct RealRange {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool without_least = false;  // least itself is outside
};
inline constexpr RealRange kPositive{0, std::numeric_limits<double>::infinity(), true};
inline constexpr RealRange kNotNegative{0, std::numeric_limits<double>::infinity(), false};
inline constexpr RealRange kFraction{0, 1, false};
inline constexpr RealRange kShare{0, 1, true};

[[nodiscard]] std::string describe(const YamlNode& node);  // "'abc'", "a list", "a map", "nothing"
// Each reports what is wrong and returns some value; a mere check may drop it.
int64_t read_integer(const YamlNode& node, IntegerRange range, YamlErrors& errors);
double read_real(const YamlNode& node, RealRange range, YamlErrors& errors);
[[nodiscard]] std::string read_string(const YamlNode& node, YamlErrors& errors);
// The items of a list; none, with an error, when it is something else.
[[nodiscard]] const std::vector<YamlNode>& read_list(const YamlNode& node, YamlErrors& errors);
// Which of the words it is; 0, with an error, when none.
size_t read_word(const YamlNode& node, std::initializer_list<std::string_view> words,
                 YamlErrors& errors);

// A map whose keys are all known; anything else is reported at once.
class YamlMap {
 public:
  YamlMap(const YamlNode& node, std::initializer_list<std::string_view> known, YamlErrors& errors);
  [[nodiscard]] const YamlNode& node() const { return *node_; }
  [[nodiscard]] const YamlNode* find(std::string_view key) const;      // null when absent
  [[nodiscard]] const YamlNode* find_key(std::string_view key) const;  // the key itself, for places
  [[nodiscard]] const YamlNode& need(std::string_view key) const;      // reported when absent

  [[nodiscard]] int64_t integer(std::string_view key, IntegerRange range = {}) const;
  [[nodiscard]] uint64_t unsigned_integer(std::string_view key) const;
  [[nodiscard]] double real(std::string_view key, RealRange range = {}) const;
  [[nodiscard]] std::string string(std::string_view key) const;

 private:
  const YamlNode* node_;
  YamlErrors& errors_;
};

// Reads `schema: name` and `schema_version: v`, v at most `newest`, before anything else, so that
// a file from a newer version is refused as such and not for its first new key.
int read_schema(const YamlNode& root, std::string_view schema, int newest, YamlErrors& errors);

}  // namespace mi::runtime
