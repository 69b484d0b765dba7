#pragma once

#include <string>
#include <string_view>

#include "kernels/status.h"

namespace mi::search {

// 64 hexadecimal digits. Code::internal where OpenSSL cannot.
[[nodiscard]] Result<std::string> sha256_hex(std::string_view bytes);

}  // namespace mi::search
