// A vocabulary of pieces, and how it cuts words into them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

// U+2581, which SentencePiece writes for a space.
inline constexpr std::string_view kMetaspace = "\xe2\x96\x81";

class Pieces {
 public:
  virtual ~Pieces() = default;
  // Appends the ids of words of valid UTF-8, each for itself. `first`: the text begins with them.
  [[nodiscard]] virtual Status encode(std::span<const std::string_view> words, bool first,
                                      std::vector<int32_t>& ids) const = 0;
  [[nodiscard]] virtual int vocab() const = 0;
  // What a piece stands for; empty for unused ids.
  [[nodiscard]] virtual std::string bytes(int32_t id) const = 0;
};

// The byte that "<0x00>" to "<0xFF>" name; -1 for other pieces.
[[nodiscard]] int named_byte(std::string_view piece);
// A piece with spaces for kMetaspace.
[[nodiscard]] std::string without_metaspace(std::string_view piece);

}  // namespace mi::search
