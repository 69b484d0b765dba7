#include "libsearch/model/pre_tokenizer.h"

namespace mi::search {
namespace {

void prefix_spaces(std::vector<std::string_view>& pieces, std::vector<std::string>& storage) {
  storage.reserve(storage.size() + pieces.size());  // views into it must not move
  for (std::string_view& piece : pieces) {
    if (piece.starts_with(' ')) continue;
    std::string& spaced = storage.emplace_back(1, ' ');
    piece = spaced.append(piece);
  }
}

}  // namespace

Status PreTokenizer::split(std::string_view text, Scratch& scratch) const {
  auto& pieces = scratch.pieces;
  pieces.clear();
  scratch.spaced.clear();
  if (!text.empty()) pieces.push_back(text);
  for (size_t step = 0; step <= steps_.size(); ++step) {
    if (static_cast<int>(step) == prefix_space_before_) prefix_spaces(pieces, scratch.spaced);
    if (step == steps_.size()) break;
    scratch.next.clear();
    for (const std::string_view piece : pieces) {
      MI_CHECK(
          steps_[step].regex.split(piece, steps_[step].matches_only, scratch.regex, scratch.next));
    }
    pieces.swap(scratch.next);
  }
  return {};
}

}  // namespace mi::search
