// What is done to text before it is cut into words, one step after the other.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/regex.h"

namespace mi::search {

class Normalizer {
 public:
  struct Nfc {};
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Regex from;
    std::string to;
  };
  struct StripRight {};  // white space
  using Step = std::variant<Nfc, Prepend, Replace, StripRight>;

  void add(Step step);
  // Text must be valid UTF-8, and is that afterwards. Nothing is put before empty text.
  [[nodiscard]] Result<std::string> apply(std::string_view text) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace mi::search
