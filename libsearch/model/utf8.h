// UTF-8 as text input is held to: well-formed, shortest form, no surrogates.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/status.h"

namespace mi::search {

// Byte position of the first ill-formed sequence, if there is one.
[[nodiscard]] std::optional<size_t> find_invalid_utf8(std::string_view text);

// The code point at text[at], which it moves past. The text must be valid.
[[nodiscard]] char32_t next_code_point(std::string_view text, size_t& at);
// Unicode's White_Space.
[[nodiscard]] bool is_white_space(char32_t code_point);
// Where white space ends, from `at` on, and where it begins, before `at` and not before `begin`.
[[nodiscard]] size_t after_white_space(std::string_view text, size_t at);
[[nodiscard]] size_t before_white_space(std::string_view text, size_t begin, size_t at);
void append_utf8(std::string& text, char32_t code_point);

// Unicode normalisation form C of valid text.
[[nodiscard]] Status to_nfc(std::string_view text, std::string& out);

}  // namespace mi::search
