// tokenizer.json: all but its text steps and its model.
#include <fmt/format.h>

#include "libsearch/model/spec_check.h"
#include "libsearch/model/tokenizer_json.h"

namespace mi::search {
namespace {

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

Status read_added_tokens(const JsonObject& root, TokenizerParts& parts) {
  if (!root.has("added_tokens")) return {};
  MI_TRY(const Json* list, root.array("added_tokens"));
  const int64_t limit = parts.pieces->vocab() + std::ssize(*list) + 65536;
  for (const Json& value : *list) {
    MI_TRY(const JsonObject entry, JsonObject::of(value, root.place("added_tokens")));
    MI_TRY(AddedToken token, read_added_token(entry));
    MI_TRY(const int64_t id, entry.integer("id", 0, limit));
    token.id = static_cast<int32_t>(id);
    parts.added.push_back(std::move(token));
  }
  return {};
}

}  // namespace

Failure unsupported(const JsonObject& object, std::string_view key, std::string_view got,
                    std::string_view supported) {
  return fail(Code::unsupported,
              fmt::format("{}: got {}, supported: {}", object.place(key), got, supported));
}

Result<AddedToken> read_added_token(const JsonObject& entry) {
  AddedToken token;
  MI_TRY(token.content, entry.string("content"));
  MI_TRY(const bool single_word, entry.boolean("single_word", false));
  if (single_word) return unsupported(entry, "single_word", "true", "false");
  MI_TRY(token.strip_left, entry.boolean("lstrip", false));
  MI_TRY(token.strip_right, entry.boolean("rstrip", false));
  MI_TRY(const bool special, entry.boolean("special", false));
  MI_TRY(token.normalized, entry.boolean("normalized", !special));
  return token;
}

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                        const std::string& file) {
  MI_TRY(const Json json, parse_json(text, file));
  MI_TRY(const JsonObject root, JsonObject::of(json, file));
  TokenizerParts parts;
  MI_TRY(const TextSteps steps, read_text_steps(root, parts));
  if (root.has("post_processor")) {
    MI_TRY(const JsonObject processor, root.object("post_processor"));
    MI_CHECK(read_start(processor, parts));
  }
  MI_TRY(parts.pieces, read_pieces(root, steps, file));
  MI_CHECK(read_added_tokens(root, parts));
  return make_tokenizer(std::move(parts), file);
}

}  // namespace mi::search
