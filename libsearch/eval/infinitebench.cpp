#include "libsearch/eval/infinitebench.h"

#include <exception>
#include <fstream>
#include <istream>
#include <new>
#include <system_error>

#include <fmt/format.h>

#include "libsearch/model/json_reader.h"

namespace mi::search {
namespace {

// InfiniteBench's longest lines are 3 MB; a file without line ends must not fill the memory.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

// The next line without its end; false at the end of the stream or when it is too long.
bool read_line(std::istream& stream, std::string& line) {
  line.clear();
  std::streambuf* bytes = stream.rdbuf();
  int c = bytes->sbumpc();
  if (c == std::char_traits<char>::eof()) return false;
  while (c != std::char_traits<char>::eof() && c != '\n' && line.size() <= kMaxLineBytes) {
    line += static_cast<char>(c);
    c = bytes->sbumpc();
  }
  return true;
}

// Texts of a list, or the one text that stands in its place; numbers as they are written.
Result<std::vector<std::string>> read_texts(const JsonObject& object, std::string_view key,
                                            std::string_view expected) {
  const Json* value = object.find(key);
  if (value == nullptr) return object.wrong(key, expected);
  const bool list = value->is_array();
  const size_t size = list ? value->size() : 1;
  std::vector<std::string> texts;
  for (size_t i = 0; i < size; ++i) {
    const Json& item = list ? (*value)[i] : *value;
    if (item.is_number() && size > 1)  // math_calc: a sequence, not alternatives
      return fail(Code::schema, fmt::format("{}: got a list of {} numbers, expected {}",
                                            object.place(key), size, expected));
    if (!item.is_string() && !item.is_number()) return object.wrong(key, expected);
    texts.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
  return texts;
}

Result<LongQuestion> read_question(const std::string& line, std::string place) {
  MI_TRY(const Json json, parse_json(line, place));
  MI_TRY(const JsonObject object, JsonObject::of(json, place));
  LongQuestion question;
  question.place = std::move(place);
  MI_TRY(question.context, object.string("context"));
  if (question.context.empty()) return object.wrong("context", "a text that is not empty");
  MI_TRY(question.question, object.string("input"));
  constexpr std::string_view kAnswer = "a text or number, or a list of texts";
  MI_TRY(question.answers, read_texts(object, "answer", kAnswer));
  if (question.answers.empty()) return object.wrong("answer", kAnswer);
  for (const std::string& answer : question.answers)
    if (answer.find_first_not_of(" \t\r\n") == std::string::npos)
      return object.wrong("answer", "texts that are not empty");
  if (object.has("options")) {
    MI_TRY(question.options, read_texts(object, "options", "a list of texts"));
  }
  return question;
}

}  // namespace

Result<std::vector<LongQuestion>> read_infinitebench(std::istream& stream, const std::string& name,
                                                     size_t most) try {
  std::vector<LongQuestion> questions;
  std::string line;
  for (int64_t number = 1; questions.size() < most && read_line(stream, line); ++number) {
    std::string place = fmt::format("{}:{}", name, number);
    if (line.size() > kMaxLineBytes)
      return fail(
          Code::schema,
          fmt::format("{}: found a line longer than {} MiB, expected one JSON object a line", place,
                      kMaxLineBytes >> 20));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    MI_TRY(LongQuestion question, read_question(line, std::move(place)));
    questions.push_back(std::move(question));
  }
  if (questions.empty())
    return fail(Code::schema, fmt::format("{}: found no question, expected one JSON object with "
                                          "context, input and answer a line",
                                          name));
  return questions;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, fmt::format("{}: not enough memory", name));
} catch (const std::exception& error) {
  return fail(Code::io, fmt::format("{}: cannot be read: {}", name, error.what()));
}

Result<std::vector<LongQuestion>> load_infinitebench(const std::filesystem::path& path,
                                                     size_t most) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    return fail(Code::io, fmt::format("{}: is a directory, expected a JSONL file", path.string()));
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(Code::io, fmt::format("{}: cannot be opened", path.string()));
  return read_infinitebench(file, path.string(), most);
}

}  // namespace mi::search
