// yaml-cpp's events into YamlNode. The event interface and not YAML::Node: Node merges duplicate
// keys silently, expands aliases, and destroys deep trees recursively.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <fstream>
#include <new>
#include <numeric>
#include <optional>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "libruntime/yaml_reader.h"

namespace mi::runtime {
namespace {

// Thrown through yaml-cpp's parser, caught in parse_yaml.
struct Refusal : std::exception {
  Refusal(int at_line, int at_column, std::string text)
      : line(at_line), column(at_column), what_text(std::move(text)) {}
  [[nodiscard]] const char* what() const noexcept override { return what_text.c_str(); }
  int line, column;
  std::string what_text;
};

// Bytes that a UTF-8 sequence starting at text[at] takes; 0 when it is not one.
size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  const unsigned char second = byte(at + 1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
      (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  YamlNode root;

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (std::exchange(started_, true)) refuse(mark, "found a second document, expected one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(mark, "?", anchor, YamlNode::Kind::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "found an alias, expected plain values");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = make(mark, tag, anchor, YamlNode::Kind::scalar);
    node.quoted = tag == "!";
    // yaml-cpp turns the escapes \\N and \\_ into single bytes, which are not UTF-8.
    for (size_t i = 0; i < value.size();) {
      const size_t length = utf8_length(value, i);
      if (length == 0)
        refuse(mark, "found an escape that gives no UTF-8, expected \\u and its code");
      i += length;
    }
    node.text = value;
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(mark, tag, anchor, YamlNode::Kind::sequence));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(mark, tag, anchor, YamlNode::Kind::map));
  }
  void OnMapEnd() override {
    refuse_duplicates(open_.back());
    close();
  }

 private:
  [[noreturn]] static void refuse(const YAML::Mark& mark, std::string text) {
    throw Refusal(mark.line + 1, mark.column + 1, std::move(text));
  }

  YamlNode make(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                YamlNode::Kind kind) {
    if (anchor != 0) refuse(mark, "found an anchor, expected plain values");
    // "?" plain, "!" quoted: what yaml-cpp gives where no tag is written.
    if (tag != "?" && tag != "!" && !tag.empty()) refuse(mark, "found a tag, expected none");
    if (++nodes_ > kMaxYamlNodes)
      refuse(mark, fmt::format("found more than {} values", kMaxYamlNodes));
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    return node;
  }

  void open(YamlNode node) {
    if (open_.size() >= kMaxYamlDepth)
      throw Refusal(
          node.line, node.column,
          fmt::format("found nesting deeper than {0} levels, expected {0} at most", kMaxYamlDepth));
    open_.push_back(std::move(node));
  }

  void close() {
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root = std::move(node);
      return;
    }
    YamlNode& parent = open_.back();
    if (parent.kind == YamlNode::Kind::map && parent.keys.size() == parent.items.size()) {
      if (node.kind != YamlNode::Kind::scalar)
        throw Refusal(node.line, node.column,
                      fmt::format("found {} as a key, expected a name", describe(node)));
      parent.keys.push_back(std::move(node));
    } else {
      parent.items.push_back(std::move(node));
    }
  }

  static void refuse_duplicates(const YamlNode& map) {
    std::vector<size_t> order(map.keys.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const int text = map.keys[a].text.compare(map.keys[b].text);
      return text != 0 ? text < 0 : a < b;
    });
    for (size_t i = 1; i < order.size(); ++i) {
      const YamlNode& first = map.keys[order[i - 1]];
      const YamlNode& second = map.keys[order[i]];
      if (first.text == second.text)
        throw Refusal(second.line, second.column,
                      fmt::format("found key {} again, expected it once (first at line {})",
                                  describe(second), first.line));
    }
  }

  std::vector<YamlNode> open_;
  size_t nodes_ = 0;
  bool started_ = false;
};

// yaml-cpp takes byte 0x04 for the end of the file and reads UTF-16 by its mark: both would let a
// damaged file pass as a shorter one. No YAML file may hold such bytes.
std::optional<Refusal> find_bad_byte(std::string_view text) {
  int line = 1;
  size_t line_start = 0;
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_length(text, i);
    const bool control =
        (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f;
    if (length == 0 || control)
      return Refusal(line, static_cast<int>(i - line_start) + 1,
                     fmt::format("found byte 0x{:02x}, expected UTF-8 text", byte));
    if (byte == '\n') {
      ++line;
      line_start = i + 1;
    }
    i += length;
  }
  return std::nullopt;
}

Failure at(std::string_view file_name, int line, int column, std::string_view what) {
  return fail(Code::schema, fmt::format("{}:{}:{}: {}", file_name, line, column, what));
}

}  // namespace

Result<YamlNode> parse_yaml(std::string_view text, std::string_view file_name) {
  try {
    if (text.size() > kMaxYamlBytes)
      return at(file_name, 1, 1,
                fmt::format("found {} bytes, expected at most {}", text.size(), kMaxYamlBytes));
    if (const auto bad = find_bad_byte(text))
      return at(file_name, bad->line, bad->column, bad->what());
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder tree;
    if (!parser.HandleNextDocument(tree))
      return at(file_name, 1, 1, "found an empty file, expected a map");
    while (parser.HandleNextDocument(tree)) {
    }
    return std::move(tree.root);
  } catch (const Refusal& refusal) {
    return at(file_name, refusal.line, refusal.column, refusal.what());
  } catch (const YAML::Exception& error) {
    return at(file_name, error.mark.line + 1, error.mark.column + 1,
              fmt::format("found text that is not YAML: {}", error.msg));
  } catch (const std::bad_alloc&) {
    return fail(Code::out_of_memory, fmt::format("{}: too large to read", file_name));
  } catch (const std::exception& error) {
    return at(file_name, 1, 1, fmt::format("found text that cannot be read: {}", error.what()));
  }
}

Result<std::string> read_text_file(const std::filesystem::path& path, size_t max_bytes,
                                   std::string_view begin) {
  try {
    std::error_code error;
    if (std::filesystem::is_directory(path, error))
      return fail(Code::io, fmt::format("{}: found a folder, expected a file", path.string()));
    std::ifstream stream(path, std::ios::binary);
    if (!stream) return fail(Code::io, fmt::format("{}: cannot be opened", path.string()));
    std::string text;
    std::vector<char> buffer(size_t{1} << 16);
    while (stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) ||
           stream.gcount() > 0) {
      text.append(buffer.data(), static_cast<size_t>(stream.gcount()));
      if (!text.starts_with(begin)) return text;
      if (text.size() > max_bytes)
        return fail(Code::io, fmt::format("{}: found more than {} bytes, which is the most read",
                                          path.string(), max_bytes));
    }
    if (stream.bad()) return fail(Code::io, fmt::format("{}: cannot be read", path.string()));
    return text;
  } catch (const std::bad_alloc&) {
    return fail(Code::out_of_memory, fmt::format("{}: too large to read", path.string()));
  } catch (const std::exception& exception) {
    return fail(Code::io, fmt::format("{}: {}", path.string(), exception.what()));
  }
}

}  // namespace mi::runtime
