// Unigram: every piece has a score, the logarithm of its probability, and a word is cut where the
// sum is greatest (Viterbi). As Hugging Face's tokenizers do it, in double precision: SentencePiece
// sums in float, and would cut otherwise where two ways are equal but for rounding. That is why the
// pieces of a tokenizer.json are not handed to its library.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libsearch/model/pieces.h"

namespace mi::search {

struct UnigramTables {
  struct Piece {
    std::string text;
    double score = 0;
  };
  std::vector<Piece> pieces;   // by id; of two with one text the last counts
  int32_t unknown = -1;        // id of what has no piece; unknown ones in a row become one
  bool byte_fallback = false;  // they become their bytes' pieces instead, if all are there
};

class Unigram final : public Pieces {
 public:
  explicit Unigram(UnigramTables tables);

  [[nodiscard]] Status encode(std::span<const std::string_view> words, bool first,
                              std::vector<int32_t>& ids) const override;
  [[nodiscard]] int vocab() const override { return static_cast<int>(tables_.pieces.size()); }
  [[nodiscard]] std::string bytes(int32_t id) const override;

 private:
  // The best way to a place in a word, by its last piece.
  struct Step {
    double score = 0;
    size_t begin = 0;
    int32_t id = -2;  // -1: unknown, -2: there is no way yet
  };
  // A prefix of pieces; its children lie side by side, ordered by byte.
  struct Node {
    int32_t id = -1;  // of the piece that ends here
    uint32_t first_child = 0;
    uint16_t num_children = 0;
    uint8_t byte = 0;
  };
  void build_trie();
  [[nodiscard]] const Node* child(const Node& node, char byte) const;
  void offer_pieces(std::string_view word, size_t begin, std::vector<Step>& steps) const;
  [[nodiscard]] Status append(std::string_view word, const std::vector<Step>& steps,
                              std::vector<int32_t>& ids) const;
  [[nodiscard]] Status append_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  UnigramTables tables_;
  std::vector<Node> trie_;
  std::array<int32_t, 256> byte_ids_{};  // -1: none
  double unknown_score_ = 0;
};

}  // namespace mi::search
