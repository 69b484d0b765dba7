#include "libsearch/model/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <fmt/format.h>

#include "libsearch/model/regex_dialect.h"

namespace mi::search {
namespace {

// Bounds for expressions that backtrack without end: the default of 10 million steps takes a
// second, tokenizer expressions need a few per character.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 1U << 20U;
constexpr size_t kMaxPatternBytes = 1U << 16U;

std::string message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct RegexScratch::Impl {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr);
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  Impl() {
    if (context == nullptr) return;
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Impl() {
    pcre2_match_data_free(data);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

RegexScratch::RegexScratch() : impl_(std::make_unique<Impl>()) {}
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string pattern;
  ~Code() { pcre2_code_free(code); }
};

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return fail(mi::Code::unsupported, fmt::format("regular expression of {} bytes, at most {}",
                                                   pattern.size(), kMaxPatternBytes));
  }
  MI_TRY(const std::string text, to_pcre2(pattern));
  auto code = std::make_shared<Code>();
  code->pattern = std::string(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, nullptr);
  if (code->code == nullptr) {
    return fail(mi::Code::unsupported,
                fmt::format("regular expression {}: {}", pattern, message(error)));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without JIT it is slower, nothing else
  Regex regex;
  regex.code_ = std::move(code);
  return regex;
}

Result<Regex> Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool special = std::string_view(R"(\^$.[]|()?*+{}-#)").find(c) != std::string_view::npos;
    if (special) pattern += '\\';
    pattern += c;
  }
  return compile(pattern);
}

Status Regex::split(std::string_view text, bool matches_only, RegexScratch& scratch,
                    std::vector<std::string_view>& pieces) const {
  const RegexScratch::Impl& match = *scratch.impl_;
  if (match.context == nullptr || match.data == nullptr) {
    return fail(mi::Code::out_of_memory, "regular expression: no memory to match");
  }
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t done = 0;   // end of the last piece
  size_t start = 0;  // where to look
  while (start <= text.size() && !text.empty()) {
    const int found = pcre2_match(code_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                                  match.data, match.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return fail(mi::Code::unsupported,
                  fmt::format("regular expression {} at byte {} of a piece of text: {}",
                              code_->pattern, start, message(found)));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
    const size_t begin = range[0];
    const size_t end = range[1];
    if (end <=
        begin) {  // an empty match (or one turned round by \K) cuts nothing: step a character
      start = std::max(begin, start) + 1;
      while (start < text.size() && (static_cast<uint8_t>(text[start]) & 0xc0U) == 0x80U) ++start;
      continue;
    }
    if (begin < done) return fail(mi::Code::unsupported, "regular expression matches backwards");
    if (begin > done && !matches_only) pieces.push_back(text.substr(done, begin - done));
    pieces.push_back(text.substr(begin, end - begin));
    done = start = end;
  }
  if (done < text.size() && !matches_only) pieces.push_back(text.substr(done));
  return {};
}

}  // namespace mi::search
