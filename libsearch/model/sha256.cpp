#include "libsearch/model/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::search {

Result<std::string> sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), hash.data(), &size, EVP_sha256(), nullptr) != 1)
    return fail(Code::internal, "SHA-256 is not available");
  return fmt::format("{:02x}", fmt::join(std::span(hash).first(size), ""));
}

}  // namespace mi::search
