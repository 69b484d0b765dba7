// kind needle: a fact between the paragraphs of the texts, a question about it at the end, and its
// answer as the last tokens. Plain "Question: ... Answer: ..." and no chat template: it needs
// nothing of the tokenizer, and SmolLM2-135M-Instruct answers it as surely (calib_data/README.md).
#include "libsearch/data/generators.h"

namespace mi::search {

Result<Draft> make_needle(const SampleSpec& spec, int64_t length, uint64_t seed,
                          const Tokenizer& tokenizer) {
  constexpr int kDigits = 5;
  SampleRandom random(seed, length);
  Secret secret;
  secret.subject = secret_number_of(kCities[random.below(kCities.size())]);
  secret.number = random_digits(random, kDigits);
  MI_TRY(Ids fact, secret.fact(tokenizer));
  MI_TRY(const Ids question, secret.question(tokenizer));
  MI_TRY(const Ids answer, secret.answer(tokenizer));
  const auto fixed = static_cast<int64_t>(fact.size() + question.size() + answer.size());
  if (length < fixed) return length_too_small(spec, length, fixed);
  MI_TRY(const auto hay, make_hay(spec, length - fixed, random, tokenizer));
  const size_t place = spec.depth ? place_at(hay, *spec.depth) : random.below(hay.size() + 1);
  return ask(hide(hay, {{place, std::move(fact)}}), question, answer);
}

}  // namespace mi::search
