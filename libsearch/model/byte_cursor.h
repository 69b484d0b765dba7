// Reads little-endian fields of a binary file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "kernels/status.h"
#include "libsearch/model/mapped_file.h"

namespace mi::search {

// A cursor that never reads past the end; every message says where.
class ByteCursor {
 public:
  ByteCursor(Bytes bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  [[nodiscard]] uint64_t position() const { return position_; }
  [[nodiscard]] uint64_t left() const { return bytes_.size() - position_; }
  [[nodiscard]] Failure error(Code code, std::string_view what) const {
    return fail(code, fmt::format("{}: at byte {}: {}", file_, position_, what));
  }

  template <class T>
  [[nodiscard]] Result<T> read(std::string_view field) {
    if (left() < sizeof(T)) {
      return error(Code::schema, fmt::format("{}: needs {} bytes, the file ends after {}", field,
                                             sizeof(T), left()));
    }
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  [[nodiscard]] Result<std::string_view> string(std::string_view field, uint64_t limit) {
    MI_TRY(const uint64_t length, read<uint64_t>(field));
    if (length > left() || length > limit) {
      position_ -= sizeof(uint64_t);
      return error(Code::schema, fmt::format("length of {}: got {}, expected at most {}", field,
                                             length, std::min(left() - sizeof(uint64_t), limit)));
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

 private:
  Bytes bytes_;
  const std::string& file_;
  uint64_t position_ = 0;
};

}  // namespace mi::search
