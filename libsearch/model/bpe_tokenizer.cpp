#include "libsearch/model/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <new>

#include <fmt/format.h>

#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30U;  // symbol positions are 32 bits

// Where white space ends, from `at` on, and where it begins, before `at`.
size_t after_spaces(std::string_view text, size_t at) {
  for (size_t next = at; at < text.size(); at = next)
    if (!is_white_space(next_code_point(text, next))) break;
  return at;
}
size_t before_spaces(std::string_view text, size_t begin, size_t at) {
  while (at > begin) {
    size_t first = at - 1;
    while (first > begin && (static_cast<uint8_t>(text[first]) & 0xc0U) == 0x80U) --first;
    size_t next = first;
    if (!is_white_space(next_code_point(text, next))) break;
    at = first;
  }
  return at;
}

// Finds added tokens in text: the leftmost, and of those that start there the longest.
class AddedTokens {
 public:
  void add(const std::string& content, const AddedToken& token) {
    ids_.emplace(content, Found{token.id, token.strip_left, token.strip_right});
    auto& lengths = lengths_[static_cast<uint8_t>(content.front())];
    const auto at =
        std::lower_bound(lengths.begin(), lengths.end(), content.size(), std::greater());
    if (at == lengths.end() || *at != content.size()) lengths.insert(at, content.size());
  }

  // Calls plain(stretch) and token(id) in the order of the text.
  template <class Plain, class Token>
  [[nodiscard]] Status split(std::string_view text, const Plain& plain, const Token& token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const auto found = match(text.substr(at));
      if (found == ids_.end()) {
        ++at;
        continue;
      }
      const size_t end = found->second.strip_left ? before_spaces(text, done, at) : at;
      if (end > done) MI_CHECK(plain(text.substr(done, end - done)));
      token(found->second.id);
      at += found->first.size();
      if (found->second.strip_right) at = after_spaces(text, at);
      done = at;
    }
    return done < text.size() ? plain(text.substr(done)) : Status{};
  }

 private:
  struct Found {
    int32_t id = 0;
    bool strip_left = false;
    bool strip_right = false;
  };
  using Ids = std::map<std::string, Found, std::less<>>;
  [[nodiscard]] Ids::const_iterator match(std::string_view text) const {
    for (const size_t length : lengths_[static_cast<uint8_t>(text.front())]) {
      if (length > text.size()) continue;
      if (const auto found = ids_.find(text.substr(0, length)); found != ids_.end()) return found;
    }
    return ids_.end();
  }
  Ids ids_;
  std::array<std::vector<size_t>, 256> lengths_;  // by first byte, falling
};

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(Bpe bpe, const TokenizerParts& parts, PreTokenizer pre_tokenizer)
      : bpe_(std::move(bpe)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        by_character_(parts.tables.by_character),
        metaspace_(parts.metaspace),
        nfc_(parts.nfc),
        start_(parts.start) {
    decoded_.resize(static_cast<size_t>(bpe_.vocab()));
    for (int32_t id = 0; id < bpe_.vocab(); ++id) {
      decoded_[static_cast<size_t>(id)] = bpe_.bytes(id);
    }
  }

  [[nodiscard]] Status add(const AddedToken& token);
  [[nodiscard]] Result<std::vector<int32_t>> encode(std::string_view text) const override;
  [[nodiscard]] Result<std::string> decode(std::span<const int32_t> ids) const override;
  [[nodiscard]] int vocab() const override { return static_cast<int>(decoded_.size()); }
  [[nodiscard]] std::span<const int32_t> start() const override { return start_; }

 private:
  // With kMetaspace for spaces.
  [[nodiscard]] std::string spaced(std::string_view text, bool first) const;
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  bool by_character_ = false;
  Metaspace metaspace_;
  bool nfc_ = false;
  std::vector<int32_t> start_;
  AddedTokens raw_, normalized_;
  std::vector<std::string> decoded_;  // by id
};

Status BpeTokenizer::add(const AddedToken& token) {
  if (static_cast<size_t>(token.id) >= decoded_.size()) {
    decoded_.resize(static_cast<size_t>(token.id) + 1);
  }
  decoded_[static_cast<size_t>(token.id)] = token.content;
  std::string content = token.content;
  if (token.normalized && nfc_) MI_CHECK(to_nfc(token.content, content));
  (token.normalized ? normalized_ : raw_).add(content, token);
  return {};
}

std::string BpeTokenizer::spaced(std::string_view text, bool first) const {
  using Prefix = Metaspace::Prefix;
  const Prefix prefix = metaspace_.prefix;
  std::string out;
  if (prefix == Prefix::always_another ||
      (!text.starts_with(' ') && !text.starts_with(kMetaspace) &&
       (prefix == Prefix::always || (prefix == Prefix::first && first))))
    out = kMetaspace;
  for (const char c : text) c == ' ' ? out += kMetaspace : out += c;
  return out;
}

Result<std::vector<int32_t>> BpeTokenizer::encode(std::string_view text) const try {
  if (text.size() > kMaxTextBytes) {
    return fail(Code::invalid_argument,
                fmt::format("text: got {} bytes, at most {}", text.size(), kMaxTextBytes));
  }
  if (const auto bad = find_invalid_utf8(text)) {
    return fail(Code::invalid_argument, fmt::format("text is not valid UTF-8 at byte {}", *bad));
  }
  std::vector<int32_t> ids;
  Bpe::Scratch merge_scratch;
  PreTokenizer::Scratch words;
  bool first = true;
  const auto token = [&](int32_t id) {
    ids.push_back(id);
    first = false;
  };
  const auto plain = [&](std::string_view part) -> Status {
    if (by_character_) {
      const std::string text_of = spaced(part, first);
      first = false;
      for (size_t at = 0; at < text_of.size();) {
        const size_t next = metaspace_.split ? text_of.find(kMetaspace, at + 1) : std::string::npos;
        const size_t end = std::min(next, text_of.size());
        bpe_.encode_word(std::string_view(text_of).substr(at, end - at), merge_scratch, ids);
        at = end;
      }
      return {};
    }
    MI_CHECK(pre_tokenizer_.split(part, words));
    for (const std::string_view word : words.pieces) bpe_.encode_word(word, merge_scratch, ids);
    return {};
  };
  const auto normalize = [&](std::string_view part) -> Status {
    if (!nfc_) return normalized_.split(part, plain, token);
    std::string composed;
    MI_CHECK(to_nfc(part, composed));
    return normalized_.split(composed, plain, token);
  };
  MI_CHECK(raw_.split(text, normalize, token));
  return ids;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "tokenizer: no memory for this text");
}

Result<std::string> BpeTokenizer::decode(std::span<const int32_t> ids) const try {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab()) {
      return fail(Code::invalid_argument,
                  fmt::format("token {}: got id {}, expected 0 to {}", i, ids[i], vocab() - 1));
    }
    text += decoded_[static_cast<size_t>(ids[i])];
  }
  return text;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "tokenizer: no memory for these tokens");
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(TokenizerParts parts,
                                                      const std::string& file) {
  MI_TRY(Bpe bpe, Bpe::build(parts.tables, file));
  auto tokenizer =
      std::make_unique<BpeTokenizer>(std::move(bpe), parts, std::move(parts.pre_tokenizer));
  for (const AddedToken& token : parts.added) {
    if (token.content.empty() || find_invalid_utf8(token.content)) {
      return fail(Code::schema,
                  fmt::format("{}: added token {}: expected non-empty UTF-8", file, token.id));
    }
    MI_CHECK(tokenizer->add(token));
  }
  for (const int32_t id : parts.start)
    if (id < 0 || id >= tokenizer->vocab())
      return fail(Code::schema, fmt::format("{}: start token: got id {}, expected 0 to {}", file,
                                            id, tokenizer->vocab() - 1));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace mi::search
