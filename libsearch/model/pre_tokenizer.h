// Cuts text into the words that BPE merges within.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/regex.h"

namespace mi::search {

// GPT-2's expression, the default of byte-level tokenizers.
inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class PreTokenizer {
 public:
  struct Step {
    Regex regex;
    bool matches_only = false;  // drop what lies between matches
  };
  // Steps run one after the other, each on the pieces of the one before.
  void add(Step step) { steps_.push_back(std::move(step)); }
  // A piece that does not begin with a space gets one, before the step that is added next.
  void add_prefix_space_here() { prefix_space_before_ = static_cast<int>(steps_.size()); }

  struct Scratch {
    RegexScratch regex;
    std::vector<std::string_view> pieces;  // into the text or, where a space was put, into spaced
    std::vector<std::string_view> next;
    std::vector<std::string> spaced;
  };
  // Leaves the words in scratch.pieces.
  [[nodiscard]] Status split(std::string_view text, Scratch& scratch) const;

 private:
  std::vector<Step> steps_;
  int prefix_space_before_ = -1;
};

}  // namespace mi::search
