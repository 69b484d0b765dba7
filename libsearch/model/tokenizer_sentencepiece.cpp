// A directory's tokenizer.model, and what the files beside it say about its tokens.
#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

#include "libsearch/model/json_reader.h"
#include "libsearch/model/mapped_file.h"
#include "libsearch/model/sentencepiece.h"
#include "libsearch/model/tokenizer_json.h"

namespace mi::search {
namespace {

namespace fs = std::filesystem;

// Files that are not there say nothing.
Result<Json> read_json(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  MI_TRY(const std::string text, read_text_file(path));
  return parse_json(text, path.string());
}

// A special token as it is written: "<s>", or an object with its content.
std::optional<std::string> content_of(const Json* token) {
  if (token != nullptr && token->is_object()) {
    const auto content = token->find("content");
    token = content == token->end() ? nullptr : &*content;
  }
  if (token == nullptr || !token->is_string()) return std::nullopt;
  return token->get<std::string>();
}

class DirectoryReader {
 public:
  explicit DirectoryReader(fs::path directory)
      : directory_(std::move(directory)), file_((directory_ / "tokenizer.model").string()) {}

  [[nodiscard]] Result<std::unique_ptr<Tokenizer>> read() {
    const fs::path config_file = directory_ / "tokenizer_config.json";
    MI_TRY(const Json json, read_json(config_file));
    MI_TRY(const JsonObject config, JsonObject::of(json, config_file.string()));
    MI_TRY(const std::string model, read_text_file(file_));
    MI_TRY(const bool prefix_always, config.boolean("legacy", true));
    MI_TRY(pieces_, SentencePiece::parse(model, !prefix_always, file_));
    limit_ = pieces_->vocab() + 65536;
    MI_CHECK(add_decoder_entries(config));
    MI_CHECK(add_listed());
    add_special_pieces();
    MI_CHECK(add_special_names(config));
    TokenizerParts parts;
    MI_CHECK(set_start(config, parts));
    for (auto& [content, token] : added_) parts.added.push_back(std::move(token));
    parts.pieces = std::move(pieces_);
    return make_tokenizer(std::move(parts), file_);
  }

 private:
  // added_tokens_decoder: {"0": {"content": "<unk>", "lstrip": false, ...}, ...}
  [[nodiscard]] Status add_decoder_entries(const JsonObject& config) {
    if (!config.has("added_tokens_decoder")) return {};
    MI_TRY(const JsonObject entries, config.object("added_tokens_decoder"));
    for (const auto& [key, value] : entries.json().items()) {
      int32_t id = -1;
      const char* end = key.data() + key.size();
      if (std::from_chars(key.data(), end, id).ptr != end || id < 0 || id > limit_)
        return entries.wrong(key, fmt::format("ids up to {}", limit_));
      MI_TRY(const JsonObject entry, entries.object(key));
      MI_TRY(AddedToken token, read_added_token(entry));
      token.id = id;
      token.normalized = false;  // it is the library that normalises, and does not know of it
      added_.insert_or_assign(token.content, token);
    }
    return {};
  }

  // added_tokens.json: {"<pad>": 32000, ...}
  [[nodiscard]] Status add_listed() {
    const fs::path file = directory_ / "added_tokens.json";
    MI_TRY(const Json json, read_json(file));
    MI_TRY(const JsonObject list, JsonObject::of(json, file.string()));
    for (const auto& [content, value] : json.items()) {
      MI_TRY(const int64_t id, list.integer(content, 0, limit_));
      add(content, static_cast<int32_t>(id));
    }
    return {};
  }

  void add_special_pieces() {
    for (int32_t id = 0; id < pieces_->vocab(); ++id)
      if (pieces_->is_special(id)) add(pieces_->piece(id), id);
  }

  // Of special_tokens_map.json and tokenizer_config.json. A name without an id, such as a padding
  // token that was never trained, cannot be in a text.
  [[nodiscard]] Status add_special_names(const JsonObject& config) {
    const fs::path file = directory_ / "special_tokens_map.json";
    MI_TRY(const Json json, read_json(file));
    MI_TRY(const JsonObject map, JsonObject::of(json, file.string()));
    const auto add_name = [&](const Json& token) {
      const auto content = content_of(&token);
      const auto id = content ? pieces_->find(*content) : std::nullopt;
      if (id) add(*content, *id);
    };
    for (const Json* names : {&map.json(), &config.json()}) {
      for (const auto& [key, value] : names->items()) {
        if (key == "additional_special_tokens" && value.is_array())
          std::for_each(value.begin(), value.end(), add_name);
        else if (key.ends_with("_token") && !value.is_boolean())
          add_name(value);
      }
    }
    return {};
  }

  void add(const std::string& content, int32_t id) {
    added_.try_emplace(content, AddedToken{content, id});
  }

  // Llama's and Gemma's classes put <s> before every text unless told otherwise.
  [[nodiscard]] Status set_start(const JsonObject& config, TokenizerParts& parts) const {
    MI_TRY(const bool add, config.boolean("add_bos_token", true));
    if (!add) return {};
    auto id = pieces_->start();
    if (const auto name = content_of(config.find("bos_token"))) {
      const auto known = added_.find(*name);
      if (known == added_.end()) return config.wrong("bos_token", "a token of the tokenizer");
      id = known->second.id;
    }
    if (id) parts.start.push_back(*id);
    return {};
  }

  fs::path directory_;
  std::string file_;
  int32_t limit_ = 0;  // of ids: a wild one is a lie that costs memory
  std::unique_ptr<SentencePiece> pieces_;
  std::map<std::string, AddedToken, std::less<>> added_;  // by content; the first word counts
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> open_sentencepiece(const fs::path& directory) {
  return DirectoryReader(directory).read();
}

}  // namespace mi::search
