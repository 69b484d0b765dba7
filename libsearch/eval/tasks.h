// What mi-eval asks: prompts that end in their answer, and windows of text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libsearch/data/sample.h"
#include "libsearch/eval/infinitebench.h"

namespace mi::search {

struct Question {
  Sample sample;                      // [answer_begin, answer_end) ends it
  std::vector<std::string> accepted;  // texts of which a decoded answer must contain one
  int depth = -1;                     // which of the depths; -1: none was asked for
  bool cut = false;                   // the middle of its context was left out
};
// The questions of one task at one length; results are per cell.
struct Cell {
  std::string task;    // a generated task's name, or a file's
  int64_t length = 0;  // of every prompt; the longest for a file
  std::vector<Question> questions;
};

struct TaskOptions {
  std::vector<int64_t> lengths;
  int64_t count = 30;  // questions per task and length, and windows of text
  int64_t depths = 10;
  uint64_t seed = 0;  // added to every question's own, which no recipe uses
};

// A task whose questions are generated, and the kind of sample that they are.
struct GeneratedTask {
  std::string_view name;
  std::string_view kind;
};
inline constexpr std::array<GeneratedTask, 5> kGeneratedTasks = {{{"needle", "needle"},
                                                                  {"kv", "kv_retrieval"},
                                                                  {"multikey", "multi_key"},
                                                                  {"multiquery", "multi_query"},
                                                                  {"vt", "variable_tracking"}}};

// Depth i of n as a fraction of the text: from its begin to its end, the middle if it is the only
// one.
[[nodiscard]] double depth_at(int64_t depth, int64_t depths);
// `hay` gives the texts.
[[nodiscard]] Result<Cell> make_cell(const GeneratedTask& task, int64_t length,
                                     const SampleSpec& hay, const TaskOptions& options,
                                     const Tokenizer& tokenizer);
// Prompts of at most `longest` tokens: the middle of a longer context is left out, as InfiniteBench
// itself does.
[[nodiscard]] Result<Cell> infinitebench_cell(std::string task,
                                              std::span<const LongQuestion> questions,
                                              int64_t longest, const Tokenizer& tokenizer);
// Windows of `length` tokens of the texts one after the other, `most` at most and one at least.
[[nodiscard]] Result<std::vector<Sample>> text_windows(const SampleSpec& texts, int64_t length,
                                                       int64_t most, const Tokenizer& tokenizer);
// The texts that a recipe holds out: of all held-out samples that use the same part of theirs as
// the first.
[[nodiscard]] SampleSpec held_out_texts(const Recipe& recipe);

// Letters and digits of any script.
[[nodiscard]] bool is_word(char c);
// Whether the text contains one of the accepted ones as whole words, in whatever case.
[[nodiscard]] bool contains_answer(std::string_view text, std::span<const std::string> accepted);

}  // namespace mi::search
