#include "libsearch/data/filler.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "libruntime/yaml_reader.h"
#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;
// Longer paragraphs are split, so that a needle can lie anywhere in a text without blank lines.
constexpr size_t kMaxParagraphTokens = 192;

// The first place from `at` on where a cut does no harm: a line end, else a blank, else a
// character.
size_t cut_after(std::string_view text, size_t at) {
  if (at == 0 || at >= text.size()) return std::min(at, text.size());
  constexpr size_t kNear = 4096;
  for (const char end : {'\n', ' '}) {
    const size_t found = text.find(end, at - 1);
    if (found != std::string_view::npos && found < at + kNear) return found + 1;
  }
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
  return at;
}

std::string slice(std::string_view text, double begin, double end) {
  const auto size = static_cast<double>(text.size());
  const size_t from = cut_after(text, static_cast<size_t>(std::floor(begin * size)));
  const size_t to = cut_after(text, static_cast<size_t>(std::floor(end * size)));
  return std::string(text.substr(from, to - from));
}

// Calls use(paragraph) with the blank lines that end it.
template <class Use>
Status for_each_paragraph(std::string_view text, Use use) {
  while (!text.empty()) {
    const size_t blank = text.find("\n\n");
    size_t end = blank == std::string_view::npos ? text.size() : blank + 2;
    while (end < text.size() && text[end] == '\n') ++end;
    MI_CHECK(use(text.substr(0, end)));
    text.remove_prefix(end);
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> read_slices(const SampleSpec& spec) {
  std::vector<std::string> slices;
  for (const auto& path : spec.texts) {
    MI_TRY(const std::string text, runtime::read_text_file(path, kMaxTextBytes));
    if (const auto bad = find_invalid_utf8(text))
      return fail(Code::schema, fmt::format("{}: not valid UTF-8 at byte {}", path.string(), *bad));
    slices.push_back(slice(text, spec.part_begin, spec.part_end));
  }
  return slices;
}

Result<std::vector<Ids>> paragraphs(const SampleSpec& spec, const Tokenizer& tokenizer) {
  MI_TRY(const auto slices, read_slices(spec));
  std::vector<Ids> pieces;
  const auto add = [&](std::string_view paragraph) -> Status {
    MI_TRY(const Ids ids, tokenizer.encode(paragraph));
    for (size_t at = 0; at < ids.size(); at += kMaxParagraphTokens) {
      const size_t end = std::min(ids.size(), at + kMaxParagraphTokens);
      pieces.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(at),
                          ids.begin() + static_cast<std::ptrdiff_t>(end));
    }
    return {};
  };
  for (std::string text : slices) {
    // Texts are joined by a blank line, which the last paragraph of a file may lack.
    if (!text.empty() && !text.ends_with("\n\n")) text += text.ends_with('\n') ? "\n" : "\n\n";
    MI_CHECK(for_each_paragraph(text, add));
  }
  return pieces;
}

std::string names_of(const SampleSpec& spec) {
  std::string names;
  for (const auto& path : spec.texts) {
    if (!names.empty()) names += '+';
    names += path.filename().string();
  }
  return names;
}

Status too_short(const SampleSpec& spec, int64_t found, int64_t asked) {
  std::string files;
  for (const auto& path : spec.texts)
    files += fmt::format("{}{}", files.empty() ? "" : ", ", path.string());
  std::string part;
  if (spec.part_begin > 0 || spec.part_end < 1)
    part = fmt::format(" in the part from {:.0f} % to {:.0f} %", 100 * spec.part_begin,
                       100 * spec.part_end);
  return fail(Code::schema,
              fmt::format("{}: found {} tokens{}, expected at least {} for a {} sample", files,
                          found, part, asked, spec.kind));
}

}  // namespace mi::search
