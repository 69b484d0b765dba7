// kind needle: a fact between the paragraphs of the texts, a question about it at the end, and its
// answer as the last tokens. Plain "Question: ... Answer: ..." and no chat template: it needs
// nothing of the tokenizer, and SmolLM2-135M-Instruct answers it as surely (calib_data/README.md).
#include <algorithm>
#include <array>
#include <string>

#include "libsearch/data/generators.h"

namespace mi::search {
namespace {

// Names that a small model knows as one or two tokens.
constexpr std::array<std::string_view, 24> kCities = {
    "Oslo",   "Lima",   "Cairo",  "Paris",   "Tokyo",  "Rome",   "Berlin", "Madrid",
    "Vienna", "Dublin", "Athens", "Lisbon",  "London", "Moscow", "Sydney", "Boston",
    "Dallas", "Denver", "Havana", "Jakarta", "Kyoto",  "Mumbai", "Prague", "Warsaw"};
constexpr int kDigits = 5;

}  // namespace

Result<Draft> make_needle(const SampleSpec& spec, int64_t length, uint64_t seed,
                          const Tokenizer& tokenizer) {
  SampleRandom random(seed, length);
  const std::string city(kCities[random.below(kCities.size())]);
  std::string number;
  for (int i = 0; i < kDigits; ++i) number += static_cast<char>('0' + random.below(10));

  MI_TRY(const Ids needle,
         tokenizer.encode("The secret number of " + city + " is " + number + ".\n\n"));
  MI_TRY(const Ids question, tokenizer.encode("\n\nQuestion: What is the secret number of " + city +
                                              "?\nAnswer: The secret number of " + city + " is"));
  MI_TRY(const Ids answer, tokenizer.encode(" " + number));
  const auto fixed = static_cast<int64_t>(needle.size() + question.size() + answer.size());
  const int64_t room = length - fixed;
  if (room < 0) return length_too_small(spec, length, fixed);

  MI_TRY(const auto pieces, paragraphs(spec, tokenizer));
  int64_t found = 0;
  for (const Ids& piece : pieces) found += static_cast<int64_t>(piece.size());
  if (found < room) return fail(too_short(spec, found, room));

  // Paragraphs from a random one on, going round, the last cut to the room left; the needle goes
  // before one of them, so that it interrupts no sentence.
  std::vector<Ids> filler;
  size_t next = pieces.empty() ? 0 : random.below(pieces.size());
  for (int64_t left = room; left > 0; next = (next + 1) % pieces.size()) {
    const auto take = std::min<int64_t>(left, static_cast<int64_t>(pieces[next].size()));
    filler.emplace_back(pieces[next].begin(), pieces[next].begin() + take);
    left -= take;
  }
  const size_t place = random.below(filler.size() + 1);
  Draft draft;
  const auto append = [&](const Ids& ids) {
    draft.ids.insert(draft.ids.end(), ids.begin(), ids.end());
  };
  for (size_t i = 0; i < filler.size(); ++i) {
    if (i == place) append(needle);
    append(filler[i]);
  }
  if (place == filler.size()) append(needle);
  append(question);
  draft.answer_begin = static_cast<int64_t>(draft.ids.size());
  append(answer);
  draft.answer_end = length;
  return draft;
}

}  // namespace mi::search
