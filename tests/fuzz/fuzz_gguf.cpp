// Any bytes as a GGUF file: one error that names the file, or a description, tensors and tokenizer
// that can be used.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "libsearch/model/piece_tokenizer.h"
#include "libsearch/model/families/family.h"
#include "libsearch/model/gguf.h"
#include "libsearch/model/gguf_config.h"

namespace {

using namespace mi::search;  // NOLINT: one file, one target

void expect_place(const mi::Status& status) {
  if (status.what.find("fuzz") == std::string::npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of its own size, so that a read past the end is seen.
  const std::vector<uint8_t> bytes(data, data + size);
  const auto file = GgufFile::parse(bytes, "fuzz");
  if (!file) {
    expect_place(file.error());
    return 0;
  }
  std::vector<float> row;
  for (const WeightTensor& tensor : file->tensors().tensors()) {
    row.resize(static_cast<size_t>(tensor.columns()));
    const mi::Status status = convert_rows(tensor, tensor.rows() - 1, 1, row.data());
    if (!status) expect_place(status);
  }
  if (const auto spec = read_gguf_config(*file)) {
    for (const ModelFamily& family : families()) {
      const auto weights = bind(family, *spec, file->tensors(), NameScheme::gguf, "fuzz");
      if (!weights) expect_place(weights.error());
    }
  } else {
    expect_place(spec.error());
  }
  if (const auto tokenizer = read_gguf_tokenizer(*file)) {
    const auto ids = (*tokenizer)->encode("ab 12's \xc3\xa9\n\n");
    if (ids && !(*tokenizer)->decode(*ids)) std::abort();
  } else {
    expect_place(tokenizer.error());
  }
  return 0;
}
