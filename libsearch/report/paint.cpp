#include "libsearch/report/paint.h"

#include <algorithm>

#include <utf8proc.h>

#include <fmt/format.h>

namespace mi::search {
namespace {

bool has_shape(utf8proc_int32_t code_point) {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    utf8proc_int32_t code_point = 0;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &code_point);
    const size_t size = length > 0 ? static_cast<size_t>(length) : 1;
    if (length > 0 && has_shape(code_point)) {
      out += text.substr(0, size);
    } else {
      out += '?';
    }
    text.remove_prefix(size);
  }
  return out;
}

std::string cut_text(std::string text, size_t most) {
  most = std::max<size_t>(most, 4);
  if (text.size() <= most) return text;
  text.resize(most - 3);
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0x80) != 0) text.pop_back();
  return text + "...";
}

std::string Painter::paint(std::string_view code, std::string_view text) const {
  return colour_ ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

}  // namespace mi::search
