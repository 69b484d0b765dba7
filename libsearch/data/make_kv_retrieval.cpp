// kind kv_retrieval, the task the published configs were made on: a JSON object of random UUIDs, a
// question for the value of one key, and the value as the answer.
#include <string>

#include "libsearch/data/generators.h"

namespace mi::search {
namespace {

std::string random_uuid(SampleRandom& random) {
  std::string text;
  for (int i = 0; i < 32; ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) text += '-';
    text += "0123456789abcdef"[random.below(16)];
  }
  return text;
}

void append(Ids& to, const Ids& ids) {
  to.insert(to.end(), ids.begin(), ids.end());
}

}  // namespace

Result<Draft> make_kv_retrieval(const SampleSpec& spec, int64_t length, uint64_t seed,
                                const Tokenizer& tokenizer) {
  SampleRandom random(seed, length);
  MI_TRY(const Ids head,
         tokenizer.encode("Extract the value corresponding to the specified key in the "
                          "JSON object below.\n\nJSON data:\n{"));
  struct Pair {
    std::string key, value;
    Ids ids;
  };
  std::vector<Pair> pairs;
  int64_t pair_tokens = 0;
  const auto add_pair = [&]() -> Status {
    Pair pair{random_uuid(random), random_uuid(random), {}};
    MI_TRY(pair.ids, tokenizer.encode("\"" + pair.key + "\": \"" + pair.value + "\",\n"));
    pair_tokens += static_cast<int64_t>(pair.ids.size());
    pairs.push_back(std::move(pair));
    return {};
  };

  // The asked pair is made first, because question and answer have to fit, and put in its place
  // afterwards; the pair that ends the object is cut to make the length exact.
  MI_CHECK(add_pair());
  const Pair asked = pairs.front();
  MI_TRY(const Ids tail,
         tokenizer.encode("}\n\nKey: \"" + asked.key +
                          "\"\nThe value associated with the specified key is: \""));
  MI_TRY(const Ids answer, tokenizer.encode(asked.value));
  const auto fixed = static_cast<int64_t>(head.size() + tail.size() + answer.size());
  const int64_t room = length - fixed;
  if (room < pair_tokens) return length_too_small(spec, length, fixed + pair_tokens);
  while (pair_tokens < room) MI_CHECK(add_pair());

  const bool cut = pair_tokens > room;
  const size_t places = pairs.size() - (cut ? 1 : 0);
  std::swap(pairs[0], pairs[random.below(places)]);
  Draft draft;
  append(draft.ids, head);
  for (const Pair& pair : pairs) append(draft.ids, pair.ids);
  draft.ids.resize(head.size() + static_cast<size_t>(room));
  append(draft.ids, tail);
  draft.answer_begin = static_cast<int64_t>(draft.ids.size());
  append(draft.ids, answer);
  draft.answer_end = length;
  return draft;
}

}  // namespace mi::search
