// SentencePiece's own file, tokenizer.model: a protobuf message, read and run by its library.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/status.h"
#include "libsearch/model/pieces.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace mi::search {

class SentencePiece final : public Pieces {
 public:
  // prefix_once: the space that the model puts before text is put at its beginning only, not before
  // what follows an added token, too.
  [[nodiscard]] static Result<std::unique_ptr<SentencePiece>> parse(std::string_view model,
                                                                    bool prefix_once,
                                                                    const std::string& file);
  ~SentencePiece() override;

  [[nodiscard]] Status encode(std::span<const std::string_view> words, bool first,
                              std::vector<int32_t>& ids) const override;
  [[nodiscard]] int vocab() const override;
  [[nodiscard]] std::string bytes(int32_t id) const override;

  [[nodiscard]] const std::string& piece(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> find(std::string_view piece) const;
  // Not out of text, but put there: <s>; and the one for what is unknown.
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> start() const;

 private:
  using Processor = sentencepiece::SentencePieceProcessor;
  SentencePiece() = default;
  std::unique_ptr<Processor> first_;
  std::unique_ptr<Processor> later_;  // null: the same
};

}  // namespace mi::search
