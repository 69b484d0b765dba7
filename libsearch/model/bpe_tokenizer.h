// A byte-level BPE tokenizer and the two places it is read from.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/bpe.h"
#include "libsearch/model/gguf.h"
#include "libsearch/model/pre_tokenizer.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

// A token that is found in the text as a whole, before anything else is done to it.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool normalized = false;  // searched for in the normalised text
};

struct TokenizerParts {
  BpeTables tables;
  std::vector<AddedToken> added;
  PreTokenizer pre_tokenizer;
  bool nfc = false;
};

[[nodiscard]] Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(TokenizerParts parts,
                                                                    const std::string& file);
// tokenizer.json of Hugging Face's tokenizers.
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                                      const std::string& file);
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> read_gguf_tokenizer(const GgufFile& file);

}  // namespace mi::search
