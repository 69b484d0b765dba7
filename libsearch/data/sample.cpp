#include "libsearch/data/sample.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "libruntime/yaml_reader.h"
#include "libsearch/data/generators.h"
#include "libsearch/model/sha256.h"

namespace mi::search {
namespace {

constexpr std::array<std::pair<std::string_view, Generator>, 7> kGenerators{{
    {"text", make_text},
    {"kv_retrieval", make_kv_retrieval},
    {"needle", make_needle},
    {"repeat", make_repeat},
    {"multi_key", make_multi_key},
    {"multi_query", make_multi_query},
    {"variable_tracking", make_variable_tracking},
}};

Result<std::string> digest(std::span<const int32_t> ids) {
  std::string bytes;
  bytes.reserve(ids.size() * 4);
  for (const int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      bytes += static_cast<char>(static_cast<uint32_t>(id) >> shift);
  return sha256_hex(bytes);
}

std::string source_of(const SampleSpec& spec, uint64_t seed) {
  std::string source = spec.kind;
  if (spec.kind != "text") source += fmt::format(" seed {}", seed);
  if (!spec.texts.empty()) source += fmt::format(" {}", names_of(spec));
  if (spec.start != 0) source += fmt::format(" from token {}", spec.start);
  if (spec.part_begin > 0 || spec.part_end < 1)
    source += fmt::format(" part {:.3g} to {:.3g}", spec.part_begin, spec.part_end);
  return source;
}

Result<Sample> make(const SampleSpec& spec, int64_t length, uint64_t seed,
                    const Tokenizer& tokenizer) {
  const auto* found = std::find_if(kGenerators.begin(), kGenerators.end(),
                                   [&](const auto& entry) { return entry.first == spec.kind; });
  if (found == kGenerators.end())
    return fail(Code::invalid_argument, fmt::format("sample kind: found '{}', expected text, "
                                                    "kv_retrieval, needle, repeat, multi_key, "
                                                    "multi_query or variable_tracking",
                                                    spec.kind));
  if (length < 1 || length > kMaxLength)
    return fail(Code::invalid_argument,
                fmt::format("length: found {}, expected 1 to {} tokens", length, kMaxLength));
  const auto start = tokenizer.start();
  MI_TRY(Draft draft, found->second(spec, std::max<int64_t>(0, length - std::ssize(start)),
                                    spec.seed + seed, tokenizer));
  draft.ids.insert(draft.ids.begin(), start.begin(), start.end());
  draft.answer_begin += std::ssize(start);
  draft.answer_end += std::ssize(start);
  if (static_cast<int64_t>(draft.ids.size()) != length)
    return fail(Code::internal,
                fmt::format("{}: made {} tokens of {}", spec.kind, draft.ids.size(), length));
  Sample sample;
  sample.source = source_of(spec, spec.seed + seed);
  sample.kind = spec.kind;
  MI_TRY(sample.sha256, digest(draft.ids));
  sample.ids = std::move(draft.ids);
  sample.answer_begin = draft.answer_begin;
  sample.answer_end = draft.answer_end;
  return sample;
}

}  // namespace

Failure length_too_small(const SampleSpec& spec, int64_t length, int64_t least) {
  return fail(Code::invalid_argument, fmt::format("length {}: a {} sample needs at least {} tokens",
                                                  length, spec.kind, least));
}

Result<Sample> make_sample(const SampleSpec& spec, int64_t length, uint64_t seed,
                           const Tokenizer& tokenizer) {
  try {
    return make(spec, length, seed, tokenizer);
  } catch (const std::exception& error) {
    return fail(Code::internal, fmt::format("{} sample: {}", spec.kind, error.what()));
  }
}

Result<std::vector<int32_t>> load_token_ids(const std::filesystem::path& path, int vocab) {
  constexpr size_t kMaxBytes = size_t{1} << 30;
  try {
    MI_TRY(const std::string text, runtime::read_text_file(path, kMaxBytes));
    std::vector<int32_t> ids;
    int64_t line = 1;
    const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; };
    for (size_t at = 0; at < text.size();) {
      if (is_space(text[at])) {
        line += text[at++] == '\n' ? 1 : 0;
        continue;
      }
      const auto* end = std::find_if(text.data() + at, text.data() + text.size(), is_space);
      int32_t id = -1;
      const auto [stop, error] = std::from_chars(text.data() + at, end, id);
      if (error != std::errc() || stop != end || id < 0 || id >= vocab) {
        std::string word(text.data() + at, std::min<const char*>(end, text.data() + at + 40));
        for (char& c : word)
          if (std::isprint(static_cast<unsigned char>(c)) == 0) c = '?';
        return fail(Code::schema, fmt::format("{}:{}: found '{}', expected a token id from 0 to {}",
                                              path.string(), line, word, vocab - 1));
      }
      ids.push_back(id);
      at = static_cast<size_t>(end - text.data());
    }
    if (ids.empty())
      return fail(Code::schema, fmt::format("{}: found no token ids", path.string()));
    return ids;
  } catch (const std::exception& error) {
    return fail(Code::io, fmt::format("{}: {}", path.string(), error.what()));
  }
}

Result<Sample> sample_from_ids(std::span<const int32_t> ids, int64_t begin, int64_t length,
                               std::string_view source) {
  const auto found = static_cast<int64_t>(ids.size());
  if (begin < 0 || length < 1 || begin > found || length > found - begin)
    return fail(Code::schema, fmt::format("{}: found {} token ids, expected at least {}", source,
                                          found, begin + length));
  Sample sample;
  sample.source = source;
  sample.kind = "tokens";
  sample.ids.assign(ids.begin() + begin, ids.begin() + begin + length);
  MI_TRY(sample.sha256, digest(sample.ids));
  sample.answer_begin = sample.answer_end = length;
  return sample;
}

}  // namespace mi::search
