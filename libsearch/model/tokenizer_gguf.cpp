// The tokenizer inside a GGUF file: tokens, types and merges as metadata, the pre-tokenizer by
// name only.
#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include <fmt/format.h>

#include "libsearch/model/bpe.h"
#include "libsearch/model/piece_tokenizer.h"

namespace mi::search {
namespace {

// tokenizer.ggml.token_type
constexpr int64_t kNormal = 1;
constexpr int64_t kUnknown = 2;
constexpr int64_t kUserDefined = 4;
constexpr int64_t kControl = 3;
constexpr int64_t kByte = 6;  // the greatest that is defined

// What a name in tokenizer.ggml.pre stands for: the expressions that cut the text, in order, as
// the tokenizer.json of the model that the name comes from has them.
struct NamedPreTokenizer {
  std::string_view name;
  std::string_view first;  // may be empty
  std::string_view second;
  bool ignore_merges = false;
};

constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array kPreTokenizers = {
    NamedPreTokenizer{"gpt-2", "", kGpt2Words},
    NamedPreTokenizer{"smollm", R"(\p{N})", kGpt2Words},  // every digit for itself
    NamedPreTokenizer{"llama-bpe", "", kLlama3Words, true},
    NamedPreTokenizer{"qwen2", "", kQwen2Words},
};

Status set_pre_tokenizer(const GgufFile& file, TokenizerParts& parts, BpeTables& tables,
                         bool& add_start) {
  MI_TRY(const auto name, file.string("tokenizer.ggml.pre", "nothing"));
  std::string supported;
  for (const NamedPreTokenizer& known : kPreTokenizers) {
    supported += (supported.empty() ? "" : ", ") + std::string(known.name);
    if (known.name != name) continue;
    for (const std::string_view pattern : {known.first, known.second}) {
      if (pattern.empty()) continue;
      MI_TRY(Regex regex, Regex::compile(pattern));
      parts.pre_tokenizer.add({std::move(regex)});
    }
    tables.ignore_merges = known.ignore_merges;
    add_start = known.ignore_merges;  // Llama 3, whose files need not say so
    if (known.name == "qwen2") parts.normalizer.add(Normalizer::Nfc{});
    return {};
  }
  return fail(Code::unsupported, fmt::format("{}: metadata tokenizer.ggml.pre: got {}, supported: "
                                             "{}",
                                             file.file_name(), name, supported));
}

Status set_tokens(const GgufFile& file, TokenizerParts& parts, BpeTables& tables) {
  MI_TRY(const auto tokens, file.strings("tokenizer.ggml.tokens"));
  MI_TRY(const auto types, file.integers("tokenizer.ggml.token_type"));
  if (types.size() != tokens.size()) {
    return fail(Code::schema, fmt::format("{}: got {} token types for {} tokens", file.file_name(),
                                          types.size(), tokens.size()));
  }
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] < kNormal || types[id] > kByte) {
      return fail(Code::schema, fmt::format("{}: token {}: got type {}, expected {} to {}",
                                            file.file_name(), id, types[id], kNormal, kByte));
    }
    tables.tokens.emplace_back(tokens[id]);
    if (types[id] == kControl || types[id] == kUserDefined) {
      parts.added.push_back({std::string(tokens[id]), static_cast<int32_t>(id), false});
    }
  }
  return {};
}

Status set_merges(const GgufFile& file, BpeTables& tables) {
  MI_TRY(const auto merges, file.strings("tokenizer.ggml.merges"));
  for (const std::string_view merge : merges) {
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size()) {
      return fail(Code::schema, fmt::format("{}: tokenizer.ggml.merges: got \"{}\", expected two "
                                            "tokens",
                                            file.file_name(), merge));
    }
    tables.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return {};
}

// SentencePiece's own model: a pair of symbols that stand side by side is merged before another if
// what it makes has the greater score. As merges: every way to cut a token into two, by the token's
// score; of one score in the order of ids.
Status set_sentencepiece(const GgufFile& file, TokenizerParts& parts, BpeTables& tables) {
  MI_TRY(const auto scores, file.numbers("tokenizer.ggml.scores"));
  MI_TRY(const auto types, file.integers("tokenizer.ggml.token_type"));
  const auto& tokens = tables.tokens;
  if (scores.size() != tokens.size())
    return fail(Code::schema, fmt::format("{}: got {} token scores for {} tokens", file.file_name(),
                                          scores.size(), tokens.size()));
  std::unordered_map<std::string_view, size_t> ids;
  std::vector<size_t> by_score;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == kUnknown) tables.unknown = static_cast<int32_t>(id);
    if (types[id] != kNormal || tokens[id].empty()) continue;
    if (std::isnan(scores[id]))
      return fail(Code::schema, fmt::format("{}: token {}: got score nan, expected a number",
                                            file.file_name(), id));
    ids.emplace(tokens[id], id);
    by_score.push_back(id);
  }
  std::stable_sort(by_score.begin(), by_score.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  for (const size_t id : by_score) {
    const std::string_view token = tokens[id];
    std::vector<std::pair<size_t, size_t>> cuts;
    for (size_t at = 1; at < token.size(); ++at) {
      const auto left = ids.find(token.substr(0, at));
      const auto right = ids.find(token.substr(at));
      if (left != ids.end() && right != ids.end()) cuts.emplace_back(left->second, right->second);
    }
    std::sort(cuts.begin(), cuts.end());
    for (const auto& [left, right] : cuts) tables.merges.emplace_back(tokens[left], tokens[right]);
  }
  tables.by_character = tables.byte_fallback = tables.fuse_unknown = true;
  MI_TRY(const bool prefix, file.boolean("tokenizer.ggml.add_space_prefix", true));
  using Prefix = Metaspace::Prefix;
  parts.metaspace = Metaspace{prefix ? Prefix::always_another : Prefix::none};
  return {};
}

Status set_start(const GgufFile& file, bool by_default, const BpeTables& tables,
                 TokenizerParts& parts) {
  MI_TRY(const bool add, file.boolean("tokenizer.ggml.add_bos_token", by_default));
  if (!add) return {};
  MI_TRY(const int64_t id, file.integer("tokenizer.ggml.bos_token_id"));
  if (id < 0 || id >= std::ssize(tables.tokens))
    return fail(Code::schema,
                fmt::format("{}: metadata tokenizer.ggml.bos_token_id: got {}, expected 0 to {}",
                            file.file_name(), id, std::ssize(tables.tokens) - 1));
  parts.start.push_back(static_cast<int32_t>(id));
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_gguf_tokenizer(const GgufFile& file) {
  MI_TRY(const auto model, file.string("tokenizer.ggml.model"));
  const bool sentencepiece = model == "llama";
  if (model != "gpt2" && !sentencepiece) {
    return fail(Code::unsupported, fmt::format("{}: metadata tokenizer.ggml.model: got {}, "
                                               "supported: gpt2, llama",
                                               file.file_name(), model));
  }
  TokenizerParts parts;
  BpeTables tables;
  bool add_start = sentencepiece;
  if (!sentencepiece) MI_CHECK(set_pre_tokenizer(file, parts, tables, add_start));
  MI_CHECK(set_tokens(file, parts, tables));
  MI_CHECK(sentencepiece ? set_sentencepiece(file, parts, tables) : set_merges(file, tables));
  MI_CHECK(set_start(file, add_start, tables, parts));
  MI_TRY(parts.pieces, Bpe::build(tables, file.file_name()));
  return make_tokenizer(std::move(parts), file.file_name());
}

}  // namespace mi::search
