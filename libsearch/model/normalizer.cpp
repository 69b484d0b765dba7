#include "libsearch/model/normalizer.h"

#include "libsearch/model/utf8.h"

namespace mi::search {
namespace {

Status run(const Normalizer::Nfc&, std::string& text) {
  std::string composed;
  MI_CHECK(to_nfc(text, composed));
  text.swap(composed);
  return {};
}

Status run(const Normalizer::Prepend& step, std::string& text) {
  if (!text.empty()) text.insert(0, step.prefix);
  return {};
}

Status run(const Normalizer::Replace& step, std::string& text) {
  RegexScratch scratch;
  std::vector<std::string_view> matches;
  MI_CHECK(step.from.split(text, true, scratch, matches));
  std::string replaced;
  size_t done = 0;
  for (const std::string_view match : matches) {
    const auto begin = static_cast<size_t>(match.data() - text.data());
    replaced.append(text, done, begin - done).append(step.to);
    done = begin + match.size();
  }
  text = replaced.append(text, done);
  return {};
}

Status run(const Normalizer::StripRight&, std::string& text) {
  text.resize(before_white_space(text, 0, text.size()));
  return {};
}

}  // namespace

void Normalizer::add(Step step) {
  steps_.push_back(std::move(step));
}

Result<std::string> Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_)
    MI_CHECK(std::visit([&](const auto& kind) { return run(kind, out); }, step));
  return out;
}

}  // namespace mi::search
