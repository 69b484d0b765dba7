// The published implementation's head files (MInference 1.0): a JSON list with an object per layer,
// {"HEAD": [type, a, b, score], ...}; type is vertical_and_slash (a vertical lines, b slashes),
// stream_llm (a first keys, b keys before each row) or block_sparse (the 100 best blocks).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"

namespace mi::search {

// A config that runs what the file says; what it leaves open is told in the config's warnings. The
// file names no model: `model` is what it is for, with as many layers. Errors are Code::schema and
// name `file` and the place.
[[nodiscard]] Result<runtime::HeadConfig> from_reference(std::string_view json,
                                                         const std::string& file,
                                                         const runtime::HeadConfig::Model& model);

struct ReferenceText {
  std::string json;
  std::vector<std::string> lost;  // what the format cannot say, a line each
};
// Of parameters that differ by prompt length, those at `length` are taken: one of the config's
// calibrated ones.
[[nodiscard]] ReferenceText to_reference(const runtime::HeadConfig& config, int64_t length);

}  // namespace mi::search
