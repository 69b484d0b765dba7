// BPE: a word's bytes (GPT-2's kind) or characters (SentencePiece's) become symbols, then the
// adjacent pair that was merged earliest in training is merged first, leftmost on ties.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/pieces.h"

namespace mi::search {

// What a tokenizer file says, written in the alphabet of byte_level.h where symbols are bytes.
struct BpeTables {
  std::vector<std::string> tokens;                          // by id; unused ids are empty
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  bool ignore_merges = false;  // a word that is a token becomes that token
  int32_t unknown = -1;        // id of a symbol without token; -1: such symbols are dropped
  bool by_character = false;   // symbols are characters, spaces kMetaspace
  // Of characters: one without token becomes its bytes' tokens "<0x00>" to "<0xFF>", if all are
  // there; unknown ones in a row become one.
  bool byte_fallback = false;
  bool fuse_unknown = false;
};

// (left, right) -> (rank, merged). Open addressing with linear probing: one cache line per look-up
// where unordered_map takes three.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;  // -1: no such merge
    int32_t id = -1;
  };
  void reserve(size_t merges);
  [[nodiscard]] bool insert(int32_t left, int32_t right, Merge merge);  // false: was there
  [[nodiscard]] Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  [[nodiscard]] size_t slot_of(uint64_t key) const;
  std::vector<Slot> slots_;
  int shift_ = 63;
};

class Bpe final : public Pieces {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Bpe>> build(const BpeTables& tables,
                                                          const std::string& file);
  Bpe(const Bpe&) = delete;  // words_ points into bytes_
  Bpe& operator=(const Bpe&) = delete;

  // Of words of at most 2^31 - 1 bytes, in O(n log n).
  [[nodiscard]] Status encode(std::span<const std::string_view> words, bool first,
                              std::vector<int32_t>& ids) const override;
  [[nodiscard]] int vocab() const override { return static_cast<int>(bytes_.size()); }
  [[nodiscard]] std::string bytes(int32_t id) const override {
    return bytes_[static_cast<size_t>(id)];
  }

  struct Symbol {
    int32_t id = 0;
    int32_t previous = -1;
    int32_t next = -1;
    bool gone = false;  // merged into its left neighbour
  };
  struct Candidate {
    int32_t rank = 0;
    int32_t position = 0;  // of the left symbol
    int32_t id = 0;        // of the merged symbol
  };

 private:
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  Bpe() = default;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  void put_bytes(std::string_view word, std::vector<Symbol>& symbols) const;
  void put_characters(std::string_view word, std::vector<Symbol>& symbols) const;
  void merge_symbols(Scratch& scratch) const;

  std::vector<std::string> bytes_;
  std::array<int32_t, 256> byte_ids_{};  // of tokens that stand for a byte
  bool by_character_ = false;
  bool fuse_unknown_ = false;
  int32_t unknown_ = -1;
  std::unordered_map<char32_t, int32_t> character_ids_;
  MergeTable merges_;
  bool ignore_merges_ = false;
  std::unordered_map<std::string_view, int32_t> words_;
};

}  // namespace mi::search
