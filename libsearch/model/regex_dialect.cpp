#include "libsearch/model/regex_dialect.h"

#include <algorithm>

#include <fmt/format.h>

namespace mi::search {
namespace {

// Unicode White_Space. PCRE2's own \s also takes U+180E, which is none since Unicode 6.3.
constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Escapes of letters and digits that mean the same in both. Not among them: \w \b (other
// properties), \h \v (other characters), \R \X \K \G and back references.
constexpr std::string_view kSameEscapes = "dDpPrntfx";
constexpr std::string_view kGroups[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  [[nodiscard]] Result<std::string> run() {
    while (at_ < pattern_.size()) {
      MI_CHECK(pattern_[at_] == '\\' ? escape() : in_class_ ? class_character() : character());
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string_view rest() const { return pattern_.substr(at_); }
  void copy(size_t count) {
    out_ += rest().substr(0, count);
    at_ += count;
  }
  [[nodiscard]] Failure refuse(std::string_view construct) const {
    return fail(Code::unsupported, fmt::format("regular expression {}: {} at byte {} is not "
                                               "supported",
                                               pattern_, construct, at_));
  }

  [[nodiscard]] Status escape() {
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (next == 's' || (next == 'S' && !in_class_)) {
      out_ += in_class_ ? std::string(kWhiteSpace)
                        : fmt::format("[{}{}]", next == 'S' ? "^" : "", kWhiteSpace);
      at_ += 2;
      return {};
    }
    const bool same = next != '\0' &&
                      (!is_alphanumeric(next) || kSameEscapes.find(next) != std::string_view::npos);
    if (!same) return refuse(fmt::format("\\{}{}", next, in_class_ ? " in a class" : ""));
    copy(2);
    // \p{L}, \x{20}: the braces belong to the escape.
    const bool braced = (next == 'p' || next == 'P' || next == 'x') && rest().starts_with('{');
    if (braced) copy(std::min(rest().find('}'), rest().size() - 1) + 1);
    return {};
  }

  [[nodiscard]] Status class_character() {
    // Oniguruma nests classes and intersects them with &&; PCRE2 takes both as characters.
    if (pattern_[at_] == '[') return refuse("[ in a class");
    if (rest().starts_with("&&")) return refuse("&& in a class");
    if (pattern_[at_] == ']') in_class_ = false;
    copy(1);
    return {};
  }

  [[nodiscard]] Status character() {
    if (rest().starts_with("(*")) return refuse("(*");
    if (rest().starts_with("}+")) return refuse("}+");  // possessive only in PCRE2
    if (rest().starts_with("(?")) {
      for (const std::string_view group : kGroups) {
        if (!rest().starts_with(group)) continue;
        copy(group.size());
        return {};
      }
      return refuse("this kind of group");
    }
    if (pattern_[at_] == '[') {
      in_class_ = true;
      copy(rest().starts_with("[^") ? 2 : 1);
      if (rest().starts_with(']')) return refuse("an empty class");
      return {};
    }
    copy(1);
    return {};
  }

  std::string_view pattern_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

Result<std::string> to_pcre2(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace mi::search
