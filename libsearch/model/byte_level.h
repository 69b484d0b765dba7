// The alphabet of byte-level BPE (GPT-2): every byte is written as one printable character, so
// that vocabularies and merges are text. Printable Latin-1 stands for itself, the other 68 bytes
// are U+0100 upwards in order.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace mi::search {

[[nodiscard]] const std::array<char32_t, 256>& byte_alphabet();
// The bytes that a vocabulary entry stands for; nothing when a character is not in the alphabet.
[[nodiscard]] std::optional<std::string> alphabet_to_bytes(std::string_view token);

}  // namespace mi::search
