// The fields of a protobuf message, without its description: numbers and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

struct ProtobufField {
  uint64_t number = 0;
  std::string_view bytes;  // empty for fields that are numbers
};

// Points into the message. `place` begins what errors say.
[[nodiscard]] Result<std::vector<ProtobufField>> read_protobuf(std::string_view message,
                                                               const std::string& place);

}  // namespace mi::search
