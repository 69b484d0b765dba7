// safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.
#pragma once

#include <filesystem>
#include <string>

#include "kernels/status.h"
#include "libsearch/model/mapped_file.h"
#include "libsearch/model/weights.h"

namespace mi::search {

// Adds every tensor of one file to the table. `bytes` must outlive it.
[[nodiscard]] Status parse_safetensors(Bytes bytes, const std::string& file_name,
                                       TensorTable& table);

// model.safetensors, or the shards that model.safetensors.index.json names.
[[nodiscard]] Result<TensorTable> open_safetensors(const std::filesystem::path& directory);

}  // namespace mi::search
