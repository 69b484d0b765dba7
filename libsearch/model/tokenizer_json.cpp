// tokenizer.json: BPE by bytes with the pre-tokenizers that occur with it, and BPE by characters as
// SentencePiece's models are converted to. Every other part is refused by name, since skipping it
// would give other tokens than the model was trained on.
#include <optional>

#include <fmt/format.h>

#include "libsearch/model/bpe_tokenizer.h"
#include "libsearch/model/json_reader.h"
#include "libsearch/model/spec_check.h"

namespace mi::search {
namespace {

Failure unsupported(const JsonObject& object, std::string_view key, std::string_view got,
                    std::string_view supported) {
  return fail(Code::unsupported,
              fmt::format("{}: got {}, supported: {}", object.place(key), got, supported));
}

Status read_normalizer(const JsonObject& normalizer, TokenizerParts& parts) {
  MI_TRY(const std::string type, normalizer.string("type"));
  if (type == "NFC") {
    parts.nfc = true;
    return {};
  }
  if (type == "Sequence") {
    MI_TRY(const Json* list, normalizer.array("normalizers"));
    for (const Json& value : *list) {
      MI_TRY(const JsonObject part, JsonObject::of(value, normalizer.place("normalizers")));
      MI_CHECK(read_normalizer(part, parts));
    }
    return {};
  }
  if (type == "Prepend") {
    MI_TRY(const std::string prefix, normalizer.string("prepend"));
    if (prefix != kMetaspace) return unsupported(normalizer, "prepend", prefix, "\u2581");
    parts.metaspace.prefix = Metaspace::Prefix::always_another;
    return {};
  }
  if (type == "Replace") {
    MI_TRY(const JsonObject pattern, normalizer.object("pattern"));
    MI_TRY(const std::string from, pattern.string("String"));
    MI_TRY(const std::string to, normalizer.string("content"));
    if (from != " " || to != kMetaspace)
      return unsupported(normalizer, "content", to, "\u2581 for a space");
    parts.tables.by_character = true;
    return {};
  }
  return unsupported(normalizer, "type", type, "none, NFC, Prepend, Replace, Sequence");
}

// Metaspace, in its own words: what prepend_scheme says, or add_prefix_space before that.
Status read_metaspace(const JsonObject& part, TokenizerParts& parts) {
  MI_TRY(const std::string replacement, part.string("replacement"));
  if (replacement != kMetaspace) return unsupported(part, "replacement", replacement, "\u2581");
  MI_TRY(const bool prefix, part.boolean("add_prefix_space", true));
  MI_TRY(const std::string scheme, part.string("prepend_scheme", prefix ? "always" : "never"));
  using Prefix = Metaspace::Prefix;
  if (scheme == "always") {
    parts.metaspace.prefix = Prefix::always;
  } else if (scheme == "first") {
    parts.metaspace.prefix = Prefix::first;
  } else if (scheme != "never") {
    return unsupported(part, "prepend_scheme", scheme, "always, first, never");
  }
  MI_TRY(parts.metaspace.split, part.boolean("split", true));
  parts.tables.by_character = true;
  return {};
}

// The tokens that a template puts before the text.
Status read_start(const JsonObject& processor, TokenizerParts& parts) {
  MI_TRY(const std::string type, processor.string("type"));
  if (type == "Sequence") {
    MI_TRY(const Json* list, processor.array("processors"));
    for (const Json& value : *list) {
      MI_TRY(const JsonObject part, JsonObject::of(value, processor.place("processors")));
      MI_CHECK(read_start(part, parts));
    }
    return {};
  }
  if (type != "TemplateProcessing") return {};  // others change offsets only
  MI_TRY(const JsonObject known, processor.object("special_tokens"));
  MI_TRY(const Json* pieces, processor.array("single"));
  for (const Json& piece : *pieces) {
    MI_TRY(const JsonObject object, JsonObject::of(piece, processor.place("single")));
    if (!object.has("SpecialToken")) break;
    MI_TRY(const JsonObject special, object.object("SpecialToken"));
    MI_TRY(const std::string name, special.string("id"));
    MI_TRY(const JsonObject token, known.object(name));
    MI_TRY(const Json* ids, token.array("ids"));
    for (const Json& id : *ids) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxVocab)
        return token.wrong("ids", "token ids");
      parts.start.push_back(id.get<int32_t>());
    }
  }
  return {};
}

// Pre-tokenizer parts append their steps; the byte-level alphabet is applied by the last.
class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(PreTokenizer& out) : out_(out) {}

  [[nodiscard]] Status read(const JsonObject& part) {
    MI_TRY(const std::string type, part.string("type"));
    return read(type, part);
  }
  [[nodiscard]] bool has_byte_level() const { return has_byte_level_; }

 private:
  [[nodiscard]] Status read(const std::string& type, const JsonObject& part) {
    if (has_byte_level_)
      return unsupported(part, "type", type + " after ByteLevel", "ByteLevel last");
    if (type == "Sequence") return read_sequence(part);
    if (type == "ByteLevel") return read_byte_level(part);
    if (type == "Digits") return read_digits(part);
    if (type == "Split") return read_split(part);
    return unsupported(part, "type", type, "ByteLevel, Digits, Split, Sequence");
  }
  [[nodiscard]] Status read_sequence(const JsonObject& part) {
    MI_TRY(const Json* list, part.array("pretokenizers"));
    for (const Json& value : *list) {
      MI_TRY(const JsonObject inner, JsonObject::of(value, part.place("pretokenizers")));
      MI_CHECK(read(inner));
    }
    return {};
  }

  [[nodiscard]] Status read_byte_level(const JsonObject& part) {
    has_byte_level_ = true;
    MI_TRY(const bool prefix_space, part.boolean("add_prefix_space", true));
    MI_TRY(const bool use_regex, part.boolean("use_regex", true));
    if (prefix_space) out_.add_prefix_space_here();
    return use_regex ? add(Regex::compile(kGpt2Words), false, part) : Status{};
  }

  [[nodiscard]] Status read_digits(const JsonObject& part) {
    MI_TRY(const bool individual, part.boolean("individual_digits", false));
    return add(Regex::compile(individual ? R"(\p{N})" : R"(\p{N}+)"), false, part);
  }

  [[nodiscard]] Status read_split(const JsonObject& part) {
    MI_TRY(const JsonObject pattern, part.object("pattern"));
    MI_TRY(const std::string behavior, part.string("behavior"));
    MI_TRY(const bool invert, part.boolean("invert", false));
    const bool keep_matches = behavior == "Removed" && invert;
    if (behavior != "Isolated" && !keep_matches) {
      return unsupported(part, "behavior", behavior, "Isolated, Removed with invert");
    }
    if (pattern.has("Regex")) {
      MI_TRY(const std::string regex, pattern.string("Regex"));
      return add(Regex::compile(regex), keep_matches, part);
    }
    MI_TRY(const std::string text, pattern.string("String"));
    return add(Regex::literal(text), keep_matches, part);
  }

  [[nodiscard]] Status add(Result<Regex> regex, bool matches_only, const JsonObject& part) {
    if (!regex) {
      return fail(regex.error().code,
                  fmt::format("{}: {}", part.place("pattern"), regex.error().what));
    }
    out_.add({*std::move(regex), matches_only});
    return {};
  }

  PreTokenizer& out_;
  bool has_byte_level_ = false;
};

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

Status read_model(const JsonObject& root, BpeTables& tables) {
  MI_TRY(const JsonObject model, root.object("model"));
  MI_TRY(const std::string type, model.string("type", "BPE"));
  if (type != "BPE") return unsupported(model, "type", type, "BPE");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MI_TRY(const std::string affix, model.string(key, ""));
    if (!affix.empty()) return unsupported(model, key, affix, "none");
  }
  MI_TRY(const double dropout, model.number("dropout", 0.0));
  if (dropout != 0) return unsupported(model, "dropout", fmt::to_string(dropout), "none");
  MI_TRY(tables.byte_fallback, model.boolean("byte_fallback", false));
  MI_TRY(tables.fuse_unknown, model.boolean("fuse_unk", false));
  if (!tables.by_character && (tables.byte_fallback || tables.fuse_unknown))
    return unsupported(model, tables.byte_fallback ? "byte_fallback" : "fuse_unk", "true",
                       "false beside ByteLevel");
  MI_TRY(tables.ignore_merges, model.boolean("ignore_merges", false));
  if (tables.by_character && tables.ignore_merges)
    return unsupported(model, "ignore_merges", "true", "false without ByteLevel");
  MI_CHECK(read_vocab(model, tables));
  MI_CHECK(read_merges(model, tables));
  MI_TRY(const std::string unknown, model.string("unk_token", ""));
  for (size_t id = 0; id < tables.tokens.size() && !unknown.empty(); ++id) {
    if (tables.tokens[id] == unknown) tables.unknown = static_cast<int32_t>(id);
  }
  return {};
}

Status read_added_tokens(const JsonObject& root, TokenizerParts& parts) {
  if (!root.has("added_tokens")) return {};
  MI_TRY(const Json* list, root.array("added_tokens"));
  const size_t limit = parts.tables.tokens.size() + list->size() + 65536;
  for (const Json& value : *list) {
    MI_TRY(const JsonObject entry, JsonObject::of(value, root.place("added_tokens")));
    AddedToken token;
    MI_TRY(token.content, entry.string("content"));
    MI_TRY(const int64_t id, entry.integer("id", 0, static_cast<int64_t>(limit)));
    token.id = static_cast<int32_t>(id);
    MI_TRY(const bool single_word, entry.boolean("single_word", false));
    if (single_word) return unsupported(entry, "single_word", "true", "false");
    MI_TRY(token.strip_left, entry.boolean("lstrip", false));
    MI_TRY(token.strip_right, entry.boolean("rstrip", false));
    MI_TRY(const bool special, entry.boolean("special", false));
    MI_TRY(token.normalized, entry.boolean("normalized", !special));
    parts.added.push_back(std::move(token));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                        const std::string& file) {
  MI_TRY(const Json json, parse_json(text, file));
  MI_TRY(const JsonObject root, JsonObject::of(json, file));
  TokenizerParts parts;
  if (root.has("normalizer")) {
    MI_TRY(const JsonObject normalizer, root.object("normalizer"));
    MI_CHECK(read_normalizer(normalizer, parts));
  }
  PreTokenizerReader reader(parts.pre_tokenizer);
  if (root.has("pre_tokenizer")) {
    MI_TRY(const JsonObject part, root.object("pre_tokenizer"));
    MI_TRY(const std::string type, part.string("type"));
    MI_CHECK(type == "Metaspace" ? read_metaspace(part, parts) : reader.read(part));
  }
  if (reader.has_byte_level() == parts.tables.by_character) {
    return unsupported(
        root, "pre_tokenizer",
        parts.tables.by_character ? "ByteLevel beside \u2581 for spaces" : "none with ByteLevel",
        "ByteLevel, alone or last, or Metaspace alone");
  }
  if (root.has("post_processor")) {
    MI_TRY(const JsonObject processor, root.object("post_processor"));
    MI_CHECK(read_start(processor, parts));
  }
  MI_CHECK(read_model(root, parts.tables));
  MI_CHECK(read_added_tokens(root, parts));
  return make_bpe_tokenizer(std::move(parts), file);
}

}  // namespace mi::search
