// tokenizer.json: model.
#include <fmt/format.h>

#include "libsearch/model/bpe.h"
#include "libsearch/model/spec_check.h"
#include "libsearch/model/tokenizer_json.h"
#include "libsearch/model/unigram.h"

namespace mi::search {
namespace {

Status read_vocab(const JsonObject& model, BpeTables& tables) {
  MI_TRY(const JsonObject vocab, model.object("vocab"));
  for (const auto& [token, value] : vocab.json().items()) {
    MI_TRY(const int64_t id, vocab.integer(token, 0, kMaxVocab - 1));
    if (token.empty()) return vocab.wrong(token, "a token that is not empty");
    const auto slot = static_cast<size_t>(id);
    // Ids are dense but for the added tokens' places: a wild one is a lie that costs memory.
    if (slot >= 2 * vocab.json().size() + 65536)
      return vocab.wrong(token, "ids without great gaps");
    if (slot >= tables.tokens.size()) tables.tokens.resize(slot + 1);
    if (!tables.tokens[slot].empty()) {
      return vocab.wrong(token, fmt::format("another id than \"{}\"", tables.tokens[slot]));
    }
    tables.tokens[slot] = token;
  }
  return {};
}

Status read_merges(const JsonObject& model, BpeTables& tables) {
  MI_TRY(const Json* merges, model.array("merges"));
  for (const Json& merge : *merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      tables.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
    const size_t space = text.find(' ');
    if (space == std::string::npos) {
      return fail(Code::schema, fmt::format("{}: merge {}: expected two tokens",
                                            model.place("merges"), tables.merges.size()));
    }
    tables.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return {};
}

Status read_byte_options(const JsonObject& model, BpeTables& tables) {
  MI_TRY(tables.byte_fallback, model.boolean("byte_fallback", false));
  MI_TRY(tables.fuse_unknown, model.boolean("fuse_unk", false));
  if (!tables.by_character && (tables.byte_fallback || tables.fuse_unknown))
    return unsupported(model, tables.byte_fallback ? "byte_fallback" : "fuse_unk", "true",
                       "false beside ByteLevel");
  MI_TRY(tables.ignore_merges, model.boolean("ignore_merges", false));
  if (tables.by_character && tables.ignore_merges)
    return unsupported(model, "ignore_merges", "true", "false without ByteLevel");
  return {};
}

Result<BpeTables> read_bpe(const JsonObject& model, bool by_character) {
  BpeTables tables;
  tables.by_character = by_character;
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MI_TRY(const std::string affix, model.string(key, ""));
    if (!affix.empty()) return unsupported(model, key, affix, "none");
  }
  MI_TRY(const double dropout, model.number("dropout", 0.0));
  if (dropout != 0) return unsupported(model, "dropout", fmt::to_string(dropout), "none");
  MI_CHECK(read_byte_options(model, tables));
  MI_CHECK(read_vocab(model, tables));
  MI_CHECK(read_merges(model, tables));
  MI_TRY(const std::string unknown, model.string("unk_token", ""));
  for (size_t id = 0; id < tables.tokens.size() && !unknown.empty(); ++id) {
    if (tables.tokens[id] == unknown) tables.unknown = static_cast<int32_t>(id);
  }
  return tables;
}

Result<UnigramTables> read_unigram(const JsonObject& model) {
  UnigramTables tables;
  MI_TRY(const Json* vocab, model.array("vocab"));
  for (const Json& entry : *vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      return fail(Code::schema, fmt::format("{}: piece {}: expected a string and its score",
                                            model.place("vocab"), tables.pieces.size()));
    tables.pieces.push_back({entry[0].get<std::string>(), entry[1].get<double>()});
  }
  if (model.has("unk_id")) {
    MI_TRY(const int64_t unknown, model.integer("unk_id", 0, std::ssize(tables.pieces) - 1));
    tables.unknown = static_cast<int32_t>(unknown);
  }
  MI_TRY(tables.byte_fallback, model.boolean("byte_fallback", false));
  return tables;
}

}  // namespace

Result<std::unique_ptr<const Pieces>> read_pieces(const JsonObject& root, const TextSteps& steps,
                                                  const std::string& file) {
  MI_TRY(const JsonObject model, root.object("model"));
  MI_TRY(const std::string type, model.string("type", "BPE"));
  if (type == "Unigram") {
    if (steps.byte_level) return unsupported(model, "type", "Unigram beside ByteLevel", "BPE");
    MI_TRY(UnigramTables tables, read_unigram(model));
    return std::make_unique<const Unigram>(std::move(tables));
  }
  if (type != "BPE") return unsupported(model, "type", type, "BPE, Unigram");
  if (steps.byte_level == steps.spaces_replaced) {
    return unsupported(
        root, "pre_tokenizer",
        steps.byte_level ? "ByteLevel beside \u2581 for spaces" : "none with ByteLevel",
        "ByteLevel, alone or last, or \u2581 for spaces");
  }
  MI_TRY(const BpeTables tables, read_bpe(model, steps.spaces_replaced));
  return Bpe::build(tables, file);
}

}  // namespace mi::search
