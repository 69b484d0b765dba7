#include "libsearch/model/bpe.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "libsearch/model/byte_level.h"
#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32U | static_cast<uint32_t>(right);
}

// Heap order: std::push_heap keeps the greatest first, so "less" is "merged later".
bool merged_later(const Bpe::Candidate& a, const Bpe::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

// What a token of a vocabulary by characters stands for.
std::string character_bytes(const std::string& token, bool byte_fallback) {
  const int byte = byte_fallback ? named_byte(token) : -1;
  return byte >= 0 ? std::string(1, static_cast<char>(byte)) : without_metaspace(token);
}

void put_symbol(int32_t id, std::vector<Bpe::Symbol>& symbols) {
  const auto at = static_cast<int32_t>(symbols.size());
  symbols.push_back({id, at - 1, at + 1, false});
}

}  // namespace

void MergeTable::reserve(size_t merges) {
  const size_t slots = std::bit_ceil(2 * merges + 2);
  slots_.assign(slots, Slot{});
  shift_ = 64 - std::countr_zero(slots);
}

size_t MergeTable::slot_of(uint64_t key) const {
  size_t slot = (key * 0x9e3779b97f4a7c15U) >> shift_;  // 2^64 / golden ratio
  while (slots_[slot].key != key && slots_[slot].key != kEmpty) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

bool MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  Slot& slot = slots_[slot_of(pair_key(left, right))];
  if (slot.key != kEmpty) return false;
  slot = {pair_key(left, right), merge};
  return true;
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_key(left, right))].merge;
}

Result<std::unique_ptr<Bpe>> Bpe::build(const BpeTables& tables, const std::string& file) {
  std::unique_ptr<Bpe> made(new Bpe);
  Bpe& bpe = *made;
  std::unordered_map<std::string_view, int32_t> ids;
  for (const std::string& token : tables.tokens) {
    const auto id = static_cast<int32_t>(bpe.bytes_.size());
    // A token outside the alphabet cannot come out of a merge; it is decoded as it is written.
    bpe.bytes_.push_back(tables.by_character ? character_bytes(token, tables.byte_fallback)
                                             : alphabet_to_bytes(token).value_or(token));
    if (size_t end = 0; tables.by_character && !token.empty() && !find_invalid_utf8(token)) {
      const char32_t character = next_code_point(token, end);
      if (end == token.size()) bpe.character_ids_.emplace(character, id);
    }
    if (!token.empty() && !ids.try_emplace(token, id).second) {
      return fail(Code::schema, fmt::format("{}: token \"{}\" is there twice (ids {} and {})", file,
                                            token, ids[token], id));
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string symbol;
    if (tables.by_character)
      symbol = fmt::format("<0x{:02X}>", byte);
    else
      append_utf8(symbol, byte_alphabet()[byte]);
    const auto place = ids.find(symbol);
    const bool is_there = place != ids.end() && (!tables.by_character || tables.byte_fallback);
    bpe.byte_ids_[byte] = is_there ? place->second : tables.by_character ? -1 : tables.unknown;
  }
  bpe.by_character_ = tables.by_character;
  bpe.fuse_unknown_ = tables.fuse_unknown;
  bpe.unknown_ = tables.unknown;
  bpe.merges_.reserve(tables.merges.size());
  int32_t rank = 0;
  for (const auto& [left, right] : tables.merges) {
    const auto a = ids.find(left);
    const auto b = ids.find(right);
    const auto merged = ids.find(left + right);
    if (a == ids.end() || b == ids.end() || merged == ids.end()) {
      return fail(Code::schema, fmt::format("{}: merge {}: \"{}\" and \"{}\" or their union is no "
                                            "token",
                                            file, rank, left, right));
    }
    if (!bpe.merges_.insert(a->second, b->second, {rank, merged->second})) {
      return fail(Code::schema, fmt::format("{}: merge {}: \"{}\" and \"{}\" are merged twice",
                                            file, rank, left, right));
    }
    ++rank;
  }
  bpe.ignore_merges_ = tables.ignore_merges;
  if (bpe.ignore_merges_) {
    for (const auto& [token, id] : ids) bpe.words_.emplace(bpe.bytes_[static_cast<size_t>(id)], id);
  }
  return made;
}

Status Bpe::encode(std::span<const std::string_view> words, bool, std::vector<int32_t>& ids) const {
  Scratch scratch;
  for (const std::string_view word : words) encode_word(word, scratch, ids);
  return {};
}

void Bpe::encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto place = words_.find(word); place != words_.end()) {
      ids.push_back(place->second);
      return;
    }
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  by_character_ ? put_characters(word, symbols) : put_bytes(word, symbols);
  if (symbols.empty()) return;
  symbols.back().next = -1;
  merge_symbols(scratch);
  for (const Symbol& symbol : symbols) {
    if (!symbol.gone) ids.push_back(symbol.id);
  }
}

void Bpe::put_bytes(std::string_view word, std::vector<Symbol>& symbols) const {
  for (const char c : word)
    if (const int32_t id = byte_ids_[static_cast<uint8_t>(c)]; id >= 0) put_symbol(id, symbols);
}

void Bpe::put_characters(std::string_view word, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    const auto known = character_ids_.find(next_code_point(word, at));
    const std::string_view character = word.substr(begin, at - begin);
    if (known != character_ids_.end()) {
      put_symbol(known->second, symbols);
      after_unknown = false;
      continue;
    }
    const auto id_of = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return id_of(c) >= 0; })) {
      for (const char c : character) put_symbol(id_of(c), symbols);
      after_unknown = false;
      continue;
    }
    if (unknown_ >= 0 && !(after_unknown && fuse_unknown_)) put_symbol(unknown_, symbols);
    after_unknown = true;
  }
}

void Bpe::merge_symbols(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  const auto offer = [&](int32_t position) {
    const int32_t next = symbols[static_cast<size_t>(position)].next;
    if (next < 0) return;
    const auto merge = merges_.find(symbols[static_cast<size_t>(position)].id,
                                    symbols[static_cast<size_t>(next)].id);
    if (merge.rank >= 0) heap.push_back({merge.rank, position, merge.id});
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) offer(i);
  std::make_heap(heap.begin(), heap.end(), merged_later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), merged_later);
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.position)];
    if (left.gone || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    // Stale when one of the two has been merged since: the pair is another one now.
    if (merges_.find(left.id, right.id).id != best.id) continue;
    left.id = best.id;
    left.next = right.next;
    right.gone = true;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.position;
    for (const int32_t position : {left.previous, best.position}) {
      if (position < 0) continue;
      const size_t before = heap.size();
      offer(position);
      if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), merged_later);
    }
  }
}

}  // namespace mi::search
