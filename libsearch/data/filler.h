// The user's or our texts as material for samples: a slice of every file, in tokens, by paragraph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libsearch/data/sample.h"
#include "libsearch/model/tokenizer.h"

namespace mi::search {

using Ids = std::vector<int32_t>;

// The bytes [part_begin, part_end) of every text of the spec, cut at line ends.
[[nodiscard]] Result<std::vector<std::string>> read_slices(const SampleSpec& spec);

// Pieces that other text may be put between: paragraphs, long ones split.
[[nodiscard]] Result<std::vector<Ids>> paragraphs(const SampleSpec& spec,
                                                  const Tokenizer& tokenizer);

// "text-00.txt+text-01.txt": file names without their folders.
[[nodiscard]] std::string names_of(const SampleSpec& spec);

[[nodiscard]] Status too_short(const SampleSpec& spec, int64_t found, int64_t asked);

}  // namespace mi::search
