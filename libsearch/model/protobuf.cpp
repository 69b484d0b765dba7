#include "libsearch/model/protobuf.h"

#include <optional>

#include <fmt/format.h>

namespace mi::search {
namespace {

// Seven bits a byte, the lowest first; the last byte lacks the highest bit.
std::optional<uint64_t> read_varint(std::string_view message, size_t& at) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && at < message.size(); shift += 7) {
    const auto byte = static_cast<uint8_t>(message[at++]);
    value |= static_cast<uint64_t>(byte & 0x7fU) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

// How long the field that begins at `at` is, which is moved past its length where it has one.
std::optional<uint64_t> read_length(uint64_t type, std::string_view message, size_t& at) {
  switch (type) {
    case 0: {
      size_t end = at;
      if (!read_varint(message, end)) return std::nullopt;
      return end - at;
    }
    case 1:
      return 8;
    case 2:
      return read_varint(message, at);
    case 5:
      return 4;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::vector<ProtobufField>> read_protobuf(std::string_view message,
                                                 const std::string& place) {
  std::vector<ProtobufField> fields;
  for (size_t at = 0; at < message.size();) {
    const size_t begin = at;
    const auto tag = read_varint(message, at);
    const uint64_t type = tag.value_or(0) & 7U;
    const auto length = tag ? read_length(type, message, at) : std::nullopt;
    if (!length || *length > message.size() - at)
      return fail(Code::schema, fmt::format("{}: at byte {} of {}: found no whole field, expected "
                                            "a protobuf message",
                                            place, begin, message.size()));
    fields.push_back({*tag >> 3U, type == 2 ? message.substr(at, *length) : std::string_view()});
    at += *length;
  }
  return fields;
}

}  // namespace mi::search
