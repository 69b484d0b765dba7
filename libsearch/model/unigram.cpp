#include "libsearch/model/unigram.h"

#include <algorithm>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

constexpr double kUnknownPenalty = 10;  // below the least score, as SentencePiece has it
constexpr int32_t kUnknownPiece = -1;
constexpr int32_t kNoWay = -2;

size_t after_character(std::string_view text, size_t at) {
  static_cast<void>(next_code_point(text, at));
  return at;
}

}  // namespace

Unigram::Unigram(UnigramTables tables) : tables_(std::move(tables)) {
  double least = std::numeric_limits<double>::infinity();
  byte_ids_.fill(-1);
  for (size_t id = 0; id < tables_.pieces.size(); ++id) {
    least = std::min(least, tables_.pieces[id].score);
    const int byte = tables_.byte_fallback ? named_byte(tables_.pieces[id].text) : -1;
    if (byte >= 0) byte_ids_[static_cast<size_t>(byte)] = static_cast<int32_t>(id);
  }
  unknown_score_ = least - kUnknownPenalty;
  build_trie();
}

// Breadth first over the ordered pieces: the children of a node are the runs of one next byte.
void Unigram::build_trie() {
  std::map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < tables_.pieces.size(); ++id)
    ids[tables_.pieces[id].text] = static_cast<int32_t>(id);
  const std::vector<std::pair<std::string_view, int32_t>> ordered(ids.begin(), ids.end());
  struct Range {
    size_t begin = 0, end = 0, depth = 0;
  };
  trie_.emplace_back();
  std::vector<Range> ranges = {{0, ordered.size(), 0}};  // by node
  for (size_t node = 0; node < trie_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    if (begin < end && ordered[begin].first.size() == depth)
      trie_[node].id = ordered[begin++].second;
    trie_[node].first_child = static_cast<uint32_t>(trie_.size());
    for (size_t next = begin; begin < end; begin = next) {
      const char byte = ordered[begin].first[depth];
      while (next < end && ordered[next].first[depth] == byte) ++next;
      trie_.push_back({.byte = static_cast<uint8_t>(byte)});
      ranges.push_back({begin, next, depth + 1});
      ++trie_[node].num_children;
    }
  }
}

const Unigram::Node* Unigram::child(const Node& node, char byte) const {
  const auto begin = trie_.begin() + node.first_child;
  const auto end = begin + node.num_children;
  const auto wanted = static_cast<uint8_t>(byte);
  const auto found = std::lower_bound(
      begin, end, wanted, [](const Node& one, uint8_t other) { return one.byte < other; });
  return found == end || found->byte != wanted ? nullptr : &*found;
}

// Every piece that begins here, and the character as unknown if none of them is just that.
void Unigram::offer_pieces(std::string_view word, size_t begin, std::vector<Step>& steps) const {
  const auto offer = [&](size_t end, double score, int32_t id) {
    score += steps[begin].score;
    Step& step = steps[end];
    if (step.id == kNoWay || score > step.score) step = {score, begin, id};
  };
  const size_t character_end = after_character(word, begin);
  bool is_piece = false;
  const Node* node = &trie_.front();
  for (size_t end = begin; end < word.size();) {
    node = child(*node, word[end++]);
    if (node == nullptr) break;
    if (node->id < 0) continue;
    offer(end, tables_.pieces[static_cast<size_t>(node->id)].score, node->id);
    is_piece |= end == character_end;
  }
  if (!is_piece) offer(character_end, unknown_score_, kUnknownPiece);
}

Status Unigram::encode(std::span<const std::string_view> words, bool,
                       std::vector<int32_t>& ids) const {
  std::vector<Step> steps;
  for (const std::string_view word : words) {
    steps.assign(word.size() + 1, Step{});
    for (size_t at = 0; at < word.size(); at = after_character(word, at))
      offer_pieces(word, at, steps);
    MI_CHECK(append(word, steps, ids));
  }
  return {};
}

Status Unigram::append(std::string_view word, const std::vector<Step>& steps,
                       std::vector<int32_t>& ids) const {
  std::vector<size_t> ends;
  for (size_t end = word.size(); end > 0; end = steps[end].begin) ends.push_back(end);
  size_t unknown_begin = std::string_view::npos;
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Step& step = steps[*end];
    if (step.id == kUnknownPiece) {
      unknown_begin = std::min(unknown_begin, step.begin);
      const auto next = std::next(end);
      if (next != ends.rend() && steps[*next].id == kUnknownPiece) continue;
      MI_CHECK(append_unknown(word.substr(unknown_begin, *end - unknown_begin), ids));
      unknown_begin = std::string_view::npos;
    } else {
      ids.push_back(step.id);
    }
  }
  return {};
}

Status Unigram::append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  const auto id_of = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
  if (std::all_of(text.begin(), text.end(), [&](char c) { return id_of(c) >= 0; })) {
    for (const char c : text) ids.push_back(id_of(c));
    return {};
  }
  if (tables_.unknown < 0)
    return fail(
        Code::unsupported,
        fmt::format("text: no piece for \"{}\", and the tokenizer has none for unknown ones",
                    text));
  ids.push_back(tables_.unknown);
  return {};
}

std::string Unigram::bytes(int32_t id) const {
  const std::string& text = tables_.pieces[static_cast<size_t>(id)].text;
  const int byte = tables_.byte_fallback ? named_byte(text) : -1;
  return byte >= 0 ? std::string(1, static_cast<char>(byte)) : without_metaspace(text);
}

}  // namespace mi::search
