#include "libsearch/model/utf8.h"

#include <cstdlib>
#include <memory>

#include <fmt/format.h>
#include <utf8proc.h>

namespace mi::search {

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    if (bytes[at] < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code_point = 0;
    const auto length =
        utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
    if (length < 1) return at;
    at += static_cast<size_t>(length);
  }
  return std::nullopt;
}

char32_t next_code_point(std::string_view text, size_t& at) {
  utf8proc_int32_t code_point = 0;
  const auto length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                       static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
  at += length < 1 ? 1 : static_cast<size_t>(length);
  return static_cast<char32_t>(code_point);
}

bool is_white_space(char32_t code_point) {
  if (code_point == 0x85 || (code_point >= '\t' && code_point <= '\r')) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

size_t after_white_space(std::string_view text, size_t at) {
  for (size_t next = at; at < text.size(); at = next)
    if (!is_white_space(next_code_point(text, next))) break;
  return at;
}

size_t before_white_space(std::string_view text, size_t begin, size_t at) {
  while (at > begin) {
    size_t first = at - 1;
    while (first > begin && (static_cast<uint8_t>(text[first]) & 0xc0U) == 0x80U) --first;
    size_t next = first;
    if (!is_white_space(next_code_point(text, next))) break;
    at = first;
  }
  return at;
}

void append_utf8(std::string& text, char32_t code_point) {
  utf8proc_uint8_t buffer[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), buffer);
  text.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

Status to_nfc(std::string_view text, std::string& out) {
  utf8proc_uint8_t* composed = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (length < 0) {
    return fail(Code::invalid_argument, fmt::format("NFC: {}", utf8proc_errmsg(length)));
  }
  out.assign(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
  return {};
}

}  // namespace mi::search
