// kind multi_key, in the manner of RULER's multi-key needles: eight facts of one form lie in the
// texts, one of them is asked for, and the others mislead.
#include <algorithm>

#include "libsearch/data/generators.h"

namespace mi::search {

Result<Draft> make_multi_key(const SampleSpec& spec, int64_t length, uint64_t seed,
                             const Tokenizer& tokenizer) {
  constexpr size_t kKeys = kMultiKeyFacts;
  const auto asked_fact = static_cast<size_t>(spec.asked);
  constexpr int kDigits = 5;
  SampleRandom random(seed, length);
  auto cities = kCities;
  for (size_t i = 0; i < kKeys; ++i)
    std::swap(cities[i], cities[i + random.below(cities.size() - i)]);
  std::vector<Secret> secrets;
  std::vector<Fact> facts;
  size_t fact_tokens = 0;
  while (secrets.size() < kKeys) {
    Secret secret{std::string(cities[secrets.size()]), random_digits(random, kDigits)};
    const auto same = [&](const Secret& other) { return other.number == secret.number; };
    if (std::any_of(secrets.begin(), secrets.end(), same)) continue;
    MI_TRY(Ids ids, secret.fact(tokenizer));
    fact_tokens += ids.size();
    facts.push_back({0, std::move(ids)});
    secrets.push_back(std::move(secret));
  }
  const Secret& asked = secrets[asked_fact];
  MI_TRY(const Ids question, asked.question(tokenizer));
  MI_TRY(const Ids answer, asked.answer(tokenizer));
  const auto fixed = static_cast<int64_t>(fact_tokens + question.size() + answer.size());
  if (length < fixed) return length_too_small(spec, length, fixed);
  MI_TRY(const auto hay, make_hay(spec, length - fixed, random, tokenizer));
  for (Fact& fact : facts) fact.place = random.below(hay.size() + 1);
  if (spec.depth) facts[asked_fact].place = place_at(hay, *spec.depth);
  return ask(hide(hay, facts), question, answer);
}

}  // namespace mi::search
