// kind text: the texts one after the other, `length` tokens from token `start` on.
#include <algorithm>

#include "libsearch/data/generators.h"

namespace mi::search {

Result<Draft> make_text(const SampleSpec& spec, int64_t length, uint64_t,
                        const Tokenizer& tokenizer) {
  MI_TRY(const auto slices, read_slices(spec));
  Draft draft;
  const int64_t end = spec.start + length;
  for (const std::string& text : slices) {
    MI_TRY(const Ids ids, tokenizer.encode(text));
    draft.ids.insert(draft.ids.end(), ids.begin(), ids.end());
    if (static_cast<int64_t>(draft.ids.size()) >= end) break;
  }
  const auto found = static_cast<int64_t>(draft.ids.size());
  if (found < end) return fail(too_short(spec, found, end));
  draft.ids.resize(static_cast<size_t>(end));
  draft.ids.erase(draft.ids.begin(), draft.ids.begin() + spec.start);
  draft.answer_begin = draft.answer_end = length;
  return draft;
}

}  // namespace mi::search
