#include "libsearch/search/score_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::search {
namespace {

std::string text_of(const std::vector<runtime::SampleNote>& notes) {
  std::vector<std::string> names;
  for (const runtime::SampleNote& note : notes)
    names.push_back(fmt::format("{} of {} tokens ({:.8})", note.source, note.tokens, note.sha256));
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Status ScoreReport::keep_lengths(std::span<const int64_t> lengths) {
  const auto is_kept = [&](int64_t length) {
    return std::find(lengths.begin(), lengths.end(), length) != lengths.end();
  };
  for (const int64_t length : lengths)
    if (std::none_of(samples.begin(), samples.end(),
                     [&](const auto& sample) { return sample.tokens == length; }))
      return fail(Code::invalid_argument,
                  fmt::format("lengths: found {}, expected one of the report's: {}", length,
                              fmt::join(lengths_of(table), ", ")));
  std::erase_if(samples, [&](const auto& sample) { return !is_kept(sample.tokens); });
  std::erase_if(held_out, [&](const auto& sample) { return !is_kept(sample.tokens); });
  std::erase_if(table.samples, [&](const auto& sample) { return !is_kept(sample.length); });
  return {};
}

std::string ScoreReport::difference(const ScoreReport& expected) const {
  const auto unlike = [](std::string_view what, const auto& found, const auto& wanted) {
    return fmt::format("{}: found {}, expected {}", what, found, wanted);
  };
  if (!(model == expected.model))
    return unlike("model", fmt::format("{} {}", model.name, model.fingerprint),
                  fmt::format("{} {}", expected.model.name, expected.model.fingerprint));
  if (options != expected.options)
    return unlike("options", '"' + options + '"', '"' + expected.options + '"');
  if (backend != expected.backend) return unlike("backend", backend, expected.backend);
  if (seed != expected.seed) return unlike("seed", seed, expected.seed);
  if (last != expected.last) return unlike("last rows", last, expected.last);
  if (extras != expected.extras)
    return unlike("scores of squared lost mass", extras, expected.extras);
  if (!(space == expected.space)) return "candidates: others than expected";
  if (samples != expected.samples)
    return unlike("samples", text_of(samples), text_of(expected.samples));
  if (held_out != expected.held_out)
    return unlike("held-out samples", text_of(held_out), text_of(expected.held_out));
  return {};
}

}  // namespace mi::search
