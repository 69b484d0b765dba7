#include "libsearch/model/piece_tokenizer.h"

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
      const size_t end = found->second.strip_left ? before_white_space(text, done, at) : at;
      if (end > done) MI_CHECK(plain(text.substr(done, end - done)));
      token(found->second.id);
      at += found->first.size();
      if (found->second.strip_right) at = after_white_space(text, at);
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

class PieceTokenizer final : public Tokenizer {
 public:
  explicit PieceTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
    for (int32_t id = 0; id < parts_.pieces->vocab(); ++id)
      decoded_.push_back(parts_.pieces->bytes(id));
  }

  [[nodiscard]] Status add(const AddedToken& token);
  [[nodiscard]] Result<std::vector<int32_t>> encode(std::string_view text) const override;
  [[nodiscard]] Result<std::string> decode(std::span<const int32_t> ids) const override;
  [[nodiscard]] int vocab() const override { return static_cast<int>(decoded_.size()); }
  [[nodiscard]] std::span<const int32_t> start() const override { return parts_.start; }

 private:
  // With kMetaspace for spaces.
  [[nodiscard]] std::string spaced(std::string_view text, bool first) const;
  // Appends the ids of a stretch without added tokens.
  [[nodiscard]] Status encode_plain(std::string_view text, bool first, PreTokenizer::Scratch& words,
                                    std::vector<int32_t>& ids) const;
  TokenizerParts parts_;
  AddedTokens raw_, normalized_;
  std::vector<std::string> decoded_;  // by id
};

Status PieceTokenizer::add(const AddedToken& token) {
  if (static_cast<size_t>(token.id) >= decoded_.size()) {
    decoded_.resize(static_cast<size_t>(token.id) + 1);
  }
  decoded_[static_cast<size_t>(token.id)] = token.content;
  if (!token.normalized) {
    raw_.add(token.content, token);
    return {};
  }
  MI_TRY(const std::string content, parts_.normalizer.apply(token.content));
  if (!content.empty()) normalized_.add(content, token);
  return {};
}

std::string PieceTokenizer::spaced(std::string_view text, bool first) const {
  using Prefix = Metaspace::Prefix;
  const Prefix prefix = parts_.metaspace->prefix;
  std::string out;
  if (prefix == Prefix::always_another ||
      (!text.starts_with(' ') && !text.starts_with(kMetaspace) &&
       (prefix == Prefix::always || (prefix == Prefix::first && first))))
    out = kMetaspace;
  for (const char c : text) c == ' ' ? out += kMetaspace : out += c;
  return out;
}

Status PieceTokenizer::encode_plain(std::string_view text, bool first, PreTokenizer::Scratch& words,
                                    std::vector<int32_t>& ids) const {
  MI_CHECK(parts_.pre_tokenizer.split(text, words));
  if (!parts_.metaspace) return parts_.pieces->encode(words.pieces, first, ids);
  std::vector<std::string_view> cut;
  for (const std::string_view word : words.pieces) {
    // Not before the first word where the pre-tokenizer dropped what stood there.
    const std::string all = spaced(word, first && word.data() == text.data());
    cut.clear();
    for (size_t at = 0; at < all.size();) {
      const size_t next = parts_.metaspace->split ? all.find(kMetaspace, at + 1) : all.npos;
      const size_t end = std::min(next, all.size());
      cut.push_back(std::string_view(all).substr(at, end - at));
      at = end;
    }
    MI_CHECK(parts_.pieces->encode(cut, first, ids));
  }
  return {};
}

Result<std::vector<int32_t>> PieceTokenizer::encode(std::string_view text) const try {
  if (text.size() > kMaxTextBytes) {
    return fail(Code::invalid_argument,
                fmt::format("text: got {} bytes, at most {}", text.size(), kMaxTextBytes));
  }
  if (const auto bad = find_invalid_utf8(text)) {
    return fail(Code::invalid_argument, fmt::format("text is not valid UTF-8 at byte {}", *bad));
  }
  std::vector<int32_t> ids;
  PreTokenizer::Scratch words;
  bool first = true;
  const auto token = [&](int32_t id) {
    ids.push_back(id);
    first = false;
  };
  const auto plain = [&](std::string_view part) -> Status {
    const bool begins = first;
    first = false;
    return encode_plain(part, begins, words, ids);
  };
  const auto normalize = [&](std::string_view part) -> Status {
    MI_TRY(const std::string normal, parts_.normalizer.apply(part));
    return normalized_.split(normal, plain, token);
  };
  MI_CHECK(raw_.split(text, normalize, token));
  return ids;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "tokenizer: no memory for this text");
}

Result<std::string> PieceTokenizer::decode(std::span<const int32_t> ids) const try {
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

Result<std::unique_ptr<Tokenizer>> make_tokenizer(TokenizerParts parts, const std::string& file) {
  const auto added = std::move(parts.added);
  auto tokenizer = std::make_unique<PieceTokenizer>(std::move(parts));
  for (const AddedToken& token : added) {
    if (token.content.empty() || find_invalid_utf8(token.content)) {
      return fail(Code::schema,
                  fmt::format("{}: added token {}: expected non-empty UTF-8", file, token.id));
    }
    MI_CHECK(tokenizer->add(token));
  }
  for (const int32_t id : tokenizer->start())
    if (id < 0 || id >= tokenizer->vocab())
      return fail(Code::schema, fmt::format("{}: start token: got id {}, expected 0 to {}", file,
                                            id, tokenizer->vocab() - 1));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace mi::search
