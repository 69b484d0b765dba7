#include "libsearch/eval/tasks.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "libsearch/data/filler.h"

namespace mi::search {
namespace {

// Far from the seeds of any recipe, so that no calibration has seen the question.
constexpr uint64_t kFirstSeed = 1'000'000;

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin));
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string prompt_end(const LongQuestion& question) {
  std::string text = "\n\n" + question.question;
  for (size_t i = 0; i < question.options.size(); ++i)
    text += fmt::format("\n{}. {}", static_cast<char>('A' + i % 26), question.options[i]);
  return text + "\nAnswer:";
}

}  // namespace

double depth_at(int64_t depth, int64_t depths) {
  return depths < 2 ? 0.5 : static_cast<double>(depth) / static_cast<double>(depths - 1);
}

Result<Cell> make_cell(const GeneratedTask& task, int64_t length, const SampleSpec& hay,
                       const TaskOptions& options, const Tokenizer& tokenizer) {
  Cell cell{std::string(task.name), length, {}};
  SampleSpec spec = hay;
  spec.kind = task.kind;
  if (task.kind == "kv_retrieval") spec.texts.clear();
  const int64_t depths = std::min(options.depths, options.count);
  for (int64_t i = 0; i < options.count; ++i) {
    Question question;
    // All facts of one text are asked for in turn: they share a prefill.
    const int64_t asked = task.kind.starts_with("multi_") ? kFactsPerText : 1;
    spec.seed = kFirstSeed + static_cast<uint64_t>(i / asked);
    spec.asked = static_cast<int>(i % asked);
    if (task.kind == "needle") {
      question.depth = static_cast<int>(i % depths);
      spec.depth = depth_at(i % depths, depths);
    }
    MI_TRY(question.sample, make_sample(spec, length, options.seed, tokenizer));
    const std::span<const int32_t> ids = question.sample.ids;
    MI_TRY(const std::string answer,
           tokenizer.decode(ids.subspan(static_cast<size_t>(question.sample.answer_begin))));
    question.accepted = {trimmed(answer)};
    cell.questions.push_back(std::move(question));
  }
  return cell;
}

Result<Cell> infinitebench_cell(std::string task, std::span<const LongQuestion> questions,
                                int64_t longest, const Tokenizer& tokenizer) {
  Cell cell{std::move(task), 0, {}};
  for (const LongQuestion& asked : questions) {
    MI_TRY(Ids ids, tokenizer.encode(asked.context));
    ids.insert(ids.begin(), tokenizer.start().begin(), tokenizer.start().end());
    MI_TRY(const Ids end, tokenizer.encode(prompt_end(asked)));
    MI_TRY(const Ids answer, tokenizer.encode(" " + trimmed(asked.answers.front())));
    Question question;
    const int64_t room = longest - std::ssize(end) - std::ssize(answer);
    if (room < 2)
      return fail(Code::schema,
                  fmt::format("{}: question and answer have {} tokens, expected fewer than {}",
                              asked.place, std::ssize(end) + std::ssize(answer), longest - 1));
    if (std::ssize(ids) > room) {
      ids.erase(ids.begin() + room / 2, ids.end() - (room - room / 2));
      question.cut = true;
    }
    ids.insert(ids.end(), end.begin(), end.end());
    const int64_t answer_begin = std::ssize(ids);
    ids.insert(ids.end(), answer.begin(), answer.end());
    MI_TRY(question.sample, sample_from_ids(ids, 0, std::ssize(ids), asked.place));
    question.sample.answer_begin = answer_begin;
    for (const std::string& text : asked.answers) question.accepted.push_back(trimmed(text));
    cell.length = std::max(cell.length, question.sample.length());
    cell.questions.push_back(std::move(question));
  }
  return cell;
}

Result<std::vector<Sample>> text_windows(const SampleSpec& texts, int64_t length, int64_t most,
                                         const Tokenizer& tokenizer) {
  MI_TRY(const auto slices, read_slices(texts));
  Ids ids;
  for (const std::string& slice : slices) {
    if (std::ssize(ids) >= length * most) break;
    MI_TRY(const Ids more, tokenizer.encode(slice));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  const auto start = tokenizer.start();
  const int64_t own =
      length - std::ssize(start);  // of a window, behind what every text begins with
  if (own < 1 || std::ssize(ids) < own) return fail(too_short(texts, std::ssize(ids), length));
  std::vector<Sample> windows;
  for (int64_t i = 0; i < std::min(most, std::ssize(ids) / own); ++i) {
    Ids window(start.begin(), start.end());
    window.insert(window.end(), ids.begin() + i * own, ids.begin() + (i + 1) * own);
    MI_TRY(auto sample,
           sample_from_ids(window, 0, length,
                           fmt::format("text {} from token {}", names_of(texts), i * own)));
    windows.push_back(std::move(sample));
  }
  return windows;
}

SampleSpec held_out_texts(const Recipe& recipe) {
  SampleSpec all;
  all.kind = "text";
  for (const SampleSpec& spec : recipe.held_out) {
    if (spec.texts.empty()) continue;
    if (all.texts.empty()) {
      all.part_begin = spec.part_begin;
      all.part_end = spec.part_end;
    }
    if (spec.part_begin != all.part_begin || spec.part_end != all.part_end) continue;
    for (const auto& text : spec.texts)
      if (std::find(all.texts.begin(), all.texts.end(), text) == all.texts.end())
        all.texts.push_back(text);
  }
  return all;
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & '\x80') != 0;
}

bool contains_answer(std::string_view text, std::span<const std::string> accepted) {
  const std::string in = lower(text);
  for (const std::string& answer : accepted) {
    const std::string want = lower(answer);
    for (size_t at = want.empty() ? std::string::npos : in.find(want); at != std::string::npos;
         at = in.find(want, at + 1)) {
      const size_t end = at + want.size();
      const bool begins = at == 0 || !is_word(in[at - 1]) || !is_word(want.front());
      const bool ends = end == in.size() || !is_word(in[end]) || !is_word(want.back());
      if (begins && ends) return true;
    }
  }
  return false;
}

}  // namespace mi::search
