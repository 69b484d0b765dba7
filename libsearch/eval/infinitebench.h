// Questions in InfiniteBench's format: JSONL, one object a line with context, input (the question),
// answer (a text, or several of which any is right) and, where it is a choice, options.
#pragma once

#include <cstddef>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

struct LongQuestion {
  std::string place;  // "file:12"
  std::string context;
  std::string question;              // may be empty: summaries
  std::vector<std::string> answers;  // at least one, none empty
  std::vector<std::string> options;
};

// The first `most` questions; what follows them is not read. Blank lines are skipped, keys of other
// names ignored. Errors name file and line.
[[nodiscard]] Result<std::vector<LongQuestion>> load_infinitebench(
    const std::filesystem::path& path, size_t most);
[[nodiscard]] Result<std::vector<LongQuestion>> read_infinitebench(std::istream& stream,
                                                                   const std::string& name,
                                                                   size_t most);

}  // namespace mi::search
