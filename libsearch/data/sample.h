// Calibration samples: token ids with where they came from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

struct Sample {
  std::string source;  // "text text-00.txt", "needle seed 7", ...: printable, no machine paths
  std::string kind;    // a recipe's, or tokens
  std::vector<int32_t> ids;  // exactly `length` asked for
  std::string sha256;        // of the ids as little-endian int32
  // Tokens [answer_begin, answer_end) are the answer that ends a retrieval sample; equal if none.
  int64_t answer_begin = 0;
  int64_t answer_end = 0;
  [[nodiscard]] int64_t length() const { return static_cast<int64_t>(ids.size()); }
};

// A recipe, described in calib_data/README.md: what to calibrate on and, disjoint, what to certify
// on.
inline constexpr int64_t kMaxLength = int64_t{1} << 30;  // of a sample, in tokens
inline constexpr int kFactsPerText = 8;                  // of a multi_key or multi_query sample
struct SampleSpec {
  std::string kind;
  std::vector<std::filesystem::path> texts;  // resolved against the recipe's folder
  uint64_t seed = 0;                         // generated kinds; text has nothing random
  int64_t start = 0;                         // text: first token taken
  // The part of each text that is used, in fractions of its bytes (cut at line ends): calibration
  // and held-out samples on disjoint parts of one text share no byte of it.
  double part_begin = 0;
  double part_end = 1;
  // needle, multi_key, multi_query: where in the text the asked fact lies, from 0 to 1; drawn when
  // not given. No key of recipes.
  std::optional<double> depth;
  int asked = 0;  // multi_key, multi_query: which of the facts is asked for. No key of recipes.
};
struct Recipe {
  std::string name;
  std::vector<int64_t> lengths;  // ascending
  std::vector<SampleSpec> calibration;
  std::vector<SampleSpec> held_out;
};

[[nodiscard]] Result<Recipe> load_recipe(const std::filesystem::path& path);
// Texts named in it are resolved against `folder`.
[[nodiscard]] Result<Recipe> parse_recipe(std::string_view yaml, std::string_view file_name,
                                          const std::filesystem::path& folder);
// For the user's own texts: all kinds, calibrated on the first half of every text and certified on
// the second. The texts together need twice the longest length in tokens.
[[nodiscard]] Recipe recipe_from_texts(std::span<const std::filesystem::path> texts,
                                       std::vector<int64_t> lengths);
// Exactly `length` tokens, or an error; the same on every machine. `seed` is added to the spec's.
[[nodiscard]] Result<Sample> make_sample(const SampleSpec& spec, int64_t length, uint64_t seed,
                                         const Tokenizer& tokenizer);
// A file of whitespace-separated token ids (--tokens); ids outside [0, vocab) are an error.
[[nodiscard]] Result<std::vector<int32_t>> load_token_ids(const std::filesystem::path& path,
                                                          int vocab);
// ids[begin, begin + length) as a sample of kind "tokens"; too few is an error.
[[nodiscard]] Result<Sample> sample_from_ids(std::span<const int32_t> ids, int64_t begin,
                                             int64_t length, std::string_view source);

}  // namespace mi::search
