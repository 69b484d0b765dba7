// Regular expressions of pre-tokenizers, by PCRE2 with Unicode properties.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

// Memory of matching, reused from call to call by one thread.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Regex {
 public:
  // As Oniguruma reads it, or refused (regex_dialect.h).
  [[nodiscard]] static Result<Regex> compile(std::string_view pattern);
  // Matches of the exact text.
  [[nodiscard]] static Result<Regex> literal(std::string_view text);

  // Cuts text (valid UTF-8) into matches and the stretches between them, in order; no piece is
  // empty. With matches_only the stretches between are dropped. Thread-safe.
  [[nodiscard]] Status split(std::string_view text, bool matches_only, RegexScratch& scratch,
                             std::vector<std::string_view>& pieces) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace mi::search
