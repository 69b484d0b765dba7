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

// Finds added tokens in text: the leftmost, and of those that start there the longest.
class AddedTokens {
 public:
  void add(const std::string& content, int32_t id) {
    ids_.emplace(content, id);
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
      if (at > done) MI_CHECK(plain(text.substr(done, at - done)));
      token(found->second);
      at += found->first.size();
      done = at;
    }
    return done < text.size() ? plain(text.substr(done)) : Status{};
  }

 private:
  using Ids = std::map<std::string, int32_t, std::less<>>;
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
  BpeTokenizer(Bpe bpe, PreTokenizer pre_tokenizer, bool nfc)
      : bpe_(std::move(bpe)), pre_tokenizer_(std::move(pre_tokenizer)), nfc_(nfc) {
    decoded_.resize(static_cast<size_t>(bpe_.vocab()));
    for (int32_t id = 0; id < bpe_.vocab(); ++id) {
      decoded_[static_cast<size_t>(id)] = bpe_.bytes(id);
    }
  }

  [[nodiscard]] Status add(const AddedToken& token);
  [[nodiscard]] Result<std::vector<int32_t>> encode(std::string_view text) const override;
  [[nodiscard]] Result<std::string> decode(std::span<const int32_t> ids) const override;
  [[nodiscard]] int vocab() const override { return static_cast<int>(decoded_.size()); }

 private:
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  bool nfc_ = false;
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
  (token.normalized ? normalized_ : raw_).add(content, token.id);
  return {};
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
  const auto token = [&](int32_t id) { ids.push_back(id); };
  const auto plain = [&](std::string_view part) -> Status {
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
      std::make_unique<BpeTokenizer>(std::move(bpe), std::move(parts.pre_tokenizer), parts.nfc);
  for (const AddedToken& token : parts.added) {
    if (token.content.empty() || find_invalid_utf8(token.content)) {
      return fail(Code::schema,
                  fmt::format("{}: added token {}: expected non-empty UTF-8", file, token.id));
    }
    MI_CHECK(tokenizer->add(token));
  }
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace mi::search
