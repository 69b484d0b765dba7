// What the tables on a terminal share: emphasis, and text of others made safe to print.
#pragma once

#include <string>
#include <string_view>

namespace mi::search {

// Text from a file must not drive the terminal: control characters, those without a shape (U+202E
// turns the rest of a line around) and bytes that are not UTF-8 become '?'.
[[nodiscard]] std::string printable(std::string_view text);

// At most so many bytes, the last three of them dots where something was cut off.
[[nodiscard]] std::string cut_text(std::string text, size_t most);

class Painter {
 public:
  explicit Painter(bool colour) : colour_(colour) {}
  [[nodiscard]] std::string bold(std::string_view text) const { return paint("1", text); }
  [[nodiscard]] std::string red(std::string_view text) const { return paint("31", text); }
  [[nodiscard]] std::string green(std::string_view text) const { return paint("32", text); }
  [[nodiscard]] std::string yellow(std::string_view text) const { return paint("33", text); }

 private:
  [[nodiscard]] std::string paint(std::string_view code, std::string_view text) const;
  bool colour_;
};

}  // namespace mi::search
