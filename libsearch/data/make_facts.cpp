// Kinds multi_key and multi_query, in the manner of RULER's (arXiv 2404.06654, section 3): eight
// facts lie in the texts and one of them is asked for. Those of multi_key have one form, so that
// the others mislead; those of multi_query have a form each.
#include <algorithm>
#include <span>

#include "libsearch/data/generators.h"

namespace mi::search {
namespace {

constexpr size_t kFacts = kFactsPerText;

// What numbers are of: "The price of the green lamp is 48213."
constexpr std::array<std::string_view, 16> kSubjects = {
    "price of the green lamp",       "weight of the old ship",      "code of the cellar door",
    "number of the night train",     "length of the new bridge",    "height of the broken tower",
    "size of the northern army",     "cost of the wedding dress",   "population of the island",
    "depth of the frozen lake",      "age of the sleeping dragon",  "phone number of the bakery",
    "distance to the lighthouse",    "account number of the queen", "speed of the silver rocket",
    "catalogue number of the violin"};

// The first kFacts of `subjects`, once shuffled.
Result<Draft> make_facts(const SampleSpec& spec, int64_t length, uint64_t seed,
                         const Tokenizer& tokenizer, std::span<std::string> subjects) {
  const auto asked_fact = static_cast<size_t>(spec.asked);
  constexpr int kDigits = 5;
  SampleRandom random(seed, length);
  for (size_t i = 0; i < kFacts; ++i)
    std::swap(subjects[i], subjects[i + random.below(subjects.size() - i)]);
  std::vector<Secret> secrets;
  std::vector<Fact> facts;
  size_t fact_tokens = 0;
  while (secrets.size() < kFacts) {
    Secret secret{subjects[secrets.size()], random_digits(random, kDigits)};
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

}  // namespace

Result<Draft> make_multi_key(const SampleSpec& spec, int64_t length, uint64_t seed,
                             const Tokenizer& tokenizer) {
  std::vector<std::string> subjects;
  for (const std::string_view city : kCities) subjects.push_back(secret_number_of(city));
  return make_facts(spec, length, seed, tokenizer, subjects);
}

Result<Draft> make_multi_query(const SampleSpec& spec, int64_t length, uint64_t seed,
                               const Tokenizer& tokenizer) {
  std::vector<std::string> subjects(kSubjects.begin(), kSubjects.end());
  return make_facts(spec, length, seed, tokenizer, subjects);
}

}  // namespace mi::search
