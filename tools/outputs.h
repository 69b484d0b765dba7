// What a tool is to write, held against what it reads: writing replaces files.
#pragma once

#include <filesystem>
#include <vector>

#include "kernels/status.h"

namespace mi::tools {

// An error where an output is one of the inputs, or lies in a folder among them (a model) and is
// one of the model's files. Empty paths stand for files that were not given.
[[nodiscard]] Status check_outputs(const std::vector<std::filesystem::path>& outputs,
                                   const std::vector<std::filesystem::path>& inputs);

}  // namespace mi::tools
