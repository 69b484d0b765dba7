#include "libruntime/yaml_writer.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace mi::runtime {
namespace {

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

}  // namespace

std::string yaml_number(double value) {
  const double size = std::abs(value);
  const bool fixed = size == 0 || (size >= 1e-4 && size < 1e15);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  return {buffer, end.ptr};
}

std::string yaml_text(std::string_view text) {
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

YamlLine& YamlLine::add(std::string_view key, const std::string& value) {
  text_ += fmt::format("{}{}: {}", text_.empty() ? "" : ", ", key, value);
  return *this;
}

}  // namespace mi::runtime
