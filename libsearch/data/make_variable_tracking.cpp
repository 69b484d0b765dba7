// kind variable_tracking, in the manner of RULER's: assignments lie in order between the paragraphs
// of the texts, the first of a number, each later one of the variable before it. Asked for are all
// variables that hold the number, in that order.
#include <algorithm>
#include <set>

#include "libsearch/data/generators.h"

namespace mi::search {

Result<Draft> make_variable_tracking(const SampleSpec& spec, int64_t length, uint64_t seed,
                                     const Tokenizer& tokenizer) {
  constexpr size_t kVariables = 5;  // four hops, as RULER has them
  constexpr int kLetters = 5;
  constexpr int kDigits = 5;
  SampleRandom random(seed, length);
  std::vector<std::string> names;
  while (names.size() < kVariables) {
    std::string name;
    for (int i = 0; i < kLetters; ++i) name += static_cast<char>('A' + random.below(26));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  const std::string number = random_digits(random, kDigits);
  std::vector<Fact> facts;
  std::string list;
  size_t fact_tokens = 0;
  for (size_t i = 0; i < kVariables; ++i) {
    const std::string value = i == 0 ? number : "VAR " + names[i - 1];
    MI_TRY(Ids ids, tokenizer.encode("VAR " + names[i] + " = " + value + "\n\n"));
    fact_tokens += ids.size();
    facts.push_back({0, std::move(ids)});
    list += (i == 0 ? " " : ", ") + names[i];
  }
  MI_TRY(const Ids question,
         tokenizer.encode("\n\nQuestion: Which " + std::to_string(kVariables) +
                          " variables are assigned the value " + number +
                          " in the text above, directly or through another variable?\nAnswer: "
                          "The variables assigned the value " +
                          number + " are:"));
  MI_TRY(const Ids answer, tokenizer.encode(list));
  const auto fixed = static_cast<int64_t>(fact_tokens + question.size() + answer.size());
  if (length < fixed) return length_too_small(spec, length, fixed);
  MI_TRY(const auto hay, make_hay(spec, length - fixed, random, tokenizer));
  std::multiset<size_t> places;
  while (places.size() < kVariables) places.insert(random.below(hay.size() + 1));
  auto place = places.begin();
  for (Fact& fact : facts) fact.place = *place++;
  return ask(hide(hay, facts), question, answer);
}

}  // namespace mi::search
