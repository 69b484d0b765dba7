// Any bytes as a safetensors file: one error that names the file, or tensors that can be read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "libsearch/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> bytes(data, data + size);  // its own size: reads past it are seen
  mi::search::TensorTable table;
  const mi::Status status = mi::search::parse_safetensors(bytes, "fuzz", table);
  if (!status && status.what.find("fuzz") == std::string::npos) std::abort();
  std::vector<float> row;
  for (const mi::search::WeightTensor& tensor : table.tensors()) {
    row.resize(static_cast<size_t>(tensor.columns()));
    const mi::Status read = mi::search::convert_rows(tensor, tensor.rows() - 1, 1, row.data());
    if (!read && read.what.find("fuzz") == std::string::npos) std::abort();
  }
  return 0;
}
