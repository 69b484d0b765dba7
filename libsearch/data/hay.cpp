// Facts between the paragraphs of a text, and the question about one of them.
#include <algorithm>
#include <cmath>

#include "libsearch/data/generators.h"

namespace mi::search {

Result<std::vector<Ids>> make_hay(const SampleSpec& spec, int64_t room, SampleRandom& random,
                                  const Tokenizer& tokenizer) {
  MI_TRY(const auto pieces, paragraphs(spec, tokenizer));
  int64_t found = 0;
  for (const Ids& piece : pieces) found += static_cast<int64_t>(piece.size());
  if (found < room) return fail(too_short(spec, found, room));
  std::vector<Ids> hay;
  size_t next = pieces.empty() ? 0 : random.below(pieces.size());
  for (int64_t left = room; left > 0; next = (next + 1) % pieces.size()) {
    const auto take = std::min<int64_t>(left, static_cast<int64_t>(pieces[next].size()));
    hay.emplace_back(pieces[next].begin(), pieces[next].begin() + take);
    left -= take;
  }
  return hay;
}

size_t place_at(const std::vector<Ids>& hay, double depth) {
  size_t tokens = 0;
  for (const Ids& piece : hay) tokens += piece.size();
  const double want = std::clamp(depth, 0.0, 1.0) * static_cast<double>(tokens);
  size_t best = 0;
  size_t before = 0;
  double nearest = want;  // of place 0
  for (size_t i = 0; i < hay.size(); ++i) {
    before += hay[i].size();
    const double away = std::abs(static_cast<double>(before) - want);
    if (away < nearest) {
      nearest = away;
      best = i + 1;
    }
  }
  return best;
}

Ids hide(const std::vector<Ids>& hay, const std::vector<Fact>& facts) {
  Ids text;
  for (size_t place = 0; place <= hay.size(); ++place) {
    for (const Fact& fact : facts)
      if (fact.place == place) text.insert(text.end(), fact.ids.begin(), fact.ids.end());
    if (place < hay.size()) text.insert(text.end(), hay[place].begin(), hay[place].end());
  }
  return text;
}

Draft ask(Ids text, const Ids& question, const Ids& answer) {
  Draft draft;
  draft.ids = std::move(text);
  draft.ids.insert(draft.ids.end(), question.begin(), question.end());
  draft.answer_begin = static_cast<int64_t>(draft.ids.size());
  draft.ids.insert(draft.ids.end(), answer.begin(), answer.end());
  draft.answer_end = static_cast<int64_t>(draft.ids.size());
  return draft;
}

Result<Ids> Secret::fact(const Tokenizer& tokenizer) const {
  return tokenizer.encode("The " + subject + " is " + number + ".\n\n");
}

Result<Ids> Secret::question(const Tokenizer& tokenizer) const {
  return tokenizer.encode("\n\nQuestion: What is the " + subject + "?\nAnswer: The " + subject +
                          " is");
}

Result<Ids> Secret::answer(const Tokenizer& tokenizer) const {
  return tokenizer.encode(" " + number);
}

std::string secret_number_of(std::string_view city) {
  return "secret number of " + std::string(city);
}

std::string random_digits(SampleRandom& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>('0' + random.below(10));
  return text;
}

}  // namespace mi::search
