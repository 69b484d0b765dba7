// Any bytes: the reader of InfiniteBench's questions gives one error that names the file, or
// questions that have an answer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "libsearch/eval/infinitebench.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream stream(std::string(reinterpret_cast<const char*>(data), size));
  const auto questions = mi::search::read_infinitebench(stream, "fuzz", 10);
  if (!questions) {
    if (questions.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  if (questions->empty() || questions->size() > 10) std::abort();
  for (const auto& question : *questions) {
    if (question.context.empty() || question.answers.empty()) std::abort();
    for (const auto& answer : question.answers)
      if (answer.empty()) std::abort();
  }
  return 0;
}
