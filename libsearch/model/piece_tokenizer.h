// The tokenizer around a vocabulary of pieces, and the places it is read from.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/gguf.h"
#include "libsearch/model/normalizer.h"
#include "libsearch/model/pieces.h"
#include "libsearch/model/pre_tokenizer.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

// A token that is found in the text as a whole, before anything else is done to it.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool normalized = false;  // searched for in the normalised text
  bool strip_left = false;  // takes the white space before it along
  bool strip_right = false;
};

// How spaces become kMetaspace.
struct Metaspace {
  enum class Prefix {
    none,
    first,   // at the text's beginning, unless there is a space
    always,  // likewise after every added token
    // The same even before a space.
    always_another,
  };
  Prefix prefix = Prefix::none;
  bool split = false;  // words begin at spaces; else a stretch of text is one word
};

struct TokenizerParts {
  std::unique_ptr<const Pieces> pieces;
  std::vector<AddedToken> added;
  PreTokenizer pre_tokenizer;
  std::optional<Metaspace> metaspace;
  Normalizer normalizer;
  std::vector<int32_t> start;  // Tokenizer::start
};

[[nodiscard]] Result<std::unique_ptr<Tokenizer>> make_tokenizer(TokenizerParts parts,
                                                                const std::string& file);
// tokenizer.json of Hugging Face's tokenizers.
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                                      const std::string& file);
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> read_gguf_tokenizer(const GgufFile& file);
// A directory with SentencePiece's tokenizer.model.
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> open_sentencepiece(
    const std::filesystem::path& directory);

}  // namespace mi::search
