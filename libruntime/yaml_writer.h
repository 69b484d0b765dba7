// Canonical YAML text: numbers, words and flow maps as our writers spell them.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace mi::runtime {

// The shortest digits that read back as the same double; no exponent for the magnitudes people
// write without one, and none for an integer, so that counts read as counts.
[[nodiscard]] std::string yaml_number(double value);
// In quotes unless it reads as text without them.
[[nodiscard]] std::string yaml_text(std::string_view text);

// The keys of one flow map, in the order they are added.
class YamlLine {
 public:
  YamlLine& add(std::string_view key, const std::string& value);
  YamlLine& add(std::string_view key, double value) { return add(key, yaml_number(value)); }
  template <std::integral Integer>
  YamlLine& add(std::string_view key, Integer value) {
    return add(key, std::to_string(value));
  }
  [[nodiscard]] std::string map() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

}  // namespace mi::runtime
