// SentencePiece's precompiled_charsmap: what character sequences are replaced by. A double array
// (darts-clone's) of UTF-8 keys, whose values are places among the replacements, each ended by NUL.
#pragma once

#include <string>
#include <string_view>

#include "kernels/status.h"

namespace mi::search {

// Refuses arrays whose paths lead out of it, which SentencePiece follows without looking.
[[nodiscard]] Status check_charsmap(std::string_view bytes, const std::string& place);

}  // namespace mi::search
