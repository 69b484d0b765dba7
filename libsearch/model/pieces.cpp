#include "libsearch/model/pieces.h"

#include <charconv>

namespace mi::search {

int named_byte(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  unsigned byte = 0;
  const char* end = piece.data() + 5;
  return std::from_chars(piece.data() + 3, end, byte, 16).ptr == end ? static_cast<int>(byte) : -1;
}

std::string without_metaspace(std::string_view piece) {
  std::string text(piece);
  for (size_t at = text.find(kMetaspace); at != std::string::npos; at = text.find(kMetaspace, at))
    text.replace(at, kMetaspace.size(), " ");
  return text;
}

}  // namespace mi::search
