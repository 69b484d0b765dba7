// kind repeat: one passage again and again with other passages between, and at the end once more:
// what induction heads live on, and what plain prose hardly exercises.
#include <algorithm>

#include "libsearch/data/generators.h"

namespace mi::search {

Result<Draft> make_repeat(const SampleSpec& spec, int64_t length, uint64_t seed,
                          const Tokenizer& tokenizer) {
  constexpr int64_t kLeast = 64;
  if (length < kLeast) return length_too_small(spec, length, kLeast);
  MI_TRY(const auto pieces, paragraphs(spec, tokenizer));
  Ids text;
  for (const Ids& piece : pieces) text.insert(text.end(), piece.begin(), piece.end());

  // The passage comes back 4 to 16 times: 256 tokens at 8192, less where the sample is short.
  const int64_t passage = std::min<int64_t>(256, length / 8);
  const int64_t between = passage + passage / 2;
  const int64_t repeats = std::max<int64_t>(1, (length - passage) / (passage + between));
  const int64_t fresh = length - passage * (repeats + 1);
  const auto found = static_cast<int64_t>(text.size());
  if (found < passage + fresh) return fail(too_short(spec, found, passage + fresh));

  SampleRandom random(seed, length);
  const auto first = static_cast<int64_t>(random.below(static_cast<uint64_t>(found)));
  // Text from token `first` on, going round: the passage, then what lies between its repeats.
  std::rotate(text.begin(), text.begin() + first, text.end());
  const auto begin = text.begin();
  auto next = begin + passage;
  Draft draft;
  for (int64_t repeat = 0; repeat <= repeats; ++repeat) {
    draft.ids.insert(draft.ids.end(), begin, begin + passage);
    if (repeat == repeats) break;
    // Even shares of the fresh text, so that the sample ends with the passage.
    const int64_t share = fresh * (repeat + 1) / repeats - fresh * repeat / repeats;
    draft.ids.insert(draft.ids.end(), next, next + share);
    next += share;
  }
  draft.answer_begin = draft.answer_end = length;
  return draft;
}

}  // namespace mi::search
