// Tokenizers were trained with Oniguruma (Ruby syntax); PCRE2 reads most expressions alike, but
// not all. This translates what can be said in PCRE2 and refuses what the two read differently,
// since other words would mean other tokens than the model knows.
#pragma once

#include <string>
#include <string_view>

#include "kernels/status.h"

namespace mi::search {

// The expression for PCRE2 with UTF, UCP and MULTILINE. Refusals are Code::unsupported.
[[nodiscard]] Result<std::string> to_pcre2(std::string_view pattern);

}  // namespace mi::search
