// The parts of tokenizer.json, each in its own file. What is not known is refused by name, since
// skipping it would give other tokens than the model was trained on.
#pragma once

#include <string_view>

#include "kernels/status.h"
#include "libsearch/model/json_reader.h"
#include "libsearch/model/piece_tokenizer.h"

namespace mi::search {

[[nodiscard]] Failure unsupported(const JsonObject& object, std::string_view key,
                                  std::string_view got, std::string_view supported);

// What the normalizer and the pre-tokenizer make of spaces, which the model's vocabulary must fit.
struct TextSteps {
  bool byte_level = false;       // the alphabet of byte_level.h
  bool spaces_replaced = false;  // kMetaspace stands for them
};
// normalizer and pre_tokenizer.
[[nodiscard]] Result<TextSteps> read_text_steps(const JsonObject& root, TokenizerParts& parts);

[[nodiscard]] Result<std::unique_ptr<const Pieces>> read_pieces(const JsonObject& root,
                                                                const TextSteps& steps,
                                                                const std::string& file);

// One of added_tokens, or of added_tokens_decoder in tokenizer_config.json, which lacks the id.
[[nodiscard]] Result<AddedToken> read_added_token(const JsonObject& entry);

}  // namespace mi::search
