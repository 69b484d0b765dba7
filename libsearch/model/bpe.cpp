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

Result<Bpe> Bpe::build(const BpeTables& tables, const std::string& file) {
  Bpe bpe;
  std::unordered_map<std::string_view, int32_t> ids;
  for (const std::string& token : tables.tokens) {
    const auto id = static_cast<int32_t>(bpe.bytes_.size());
    // A token outside the alphabet cannot come out of a merge; it is decoded as it is written.
    bpe.bytes_.push_back(alphabet_to_bytes(token).value_or(token));
    if (!token.empty() && !ids.try_emplace(token, id).second) {
      return fail(Code::schema, fmt::format("{}: token \"{}\" is there twice (ids {} and {})", file,
                                            token, ids[token], id));
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string symbol;
    append_utf8(symbol, byte_alphabet()[byte]);
    const auto place = ids.find(symbol);
    bpe.byte_ids_[byte] = place == ids.end() ? tables.unknown : place->second;
  }
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
    for (const auto& [token, id] : ids) bpe.words_.emplace(bpe.bytes(id), id);
  }
  return bpe;
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
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id < 0) continue;
    const auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, at - 1, at + 1, false});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  merge_symbols(scratch);
  for (const Symbol& symbol : symbols) {
    if (!symbol.gone) ids.push_back(symbol.id);
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
