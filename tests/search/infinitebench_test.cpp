#include "libsearch/eval/infinitebench.h"

#include <catch2/catch.hpp>

#include <sstream>

#include "libsearch/eval/tasks.h"
#include "tests/search/model_support.h"
#include "tests/support.h"

namespace mi::search {
namespace {

Result<std::vector<LongQuestion>> read(const std::string& text, size_t most = 100) {
  std::istringstream stream(text);
  return read_infinitebench(stream, "q.jsonl", most);
}

constexpr const char* kGood =
    R"({"id": 0, "context": "The pass key is 71432.", "input": "What is the pass key?", )"
    R"("answer": ["71432", "71,432"], "options": []})";

TEST_CASE("questions of InfiniteBench are read field by field") {
  const auto questions = read(std::string("\n") + kGood + "\r\n  \n" +
                              R"({"context":"c","input":"","answer":"one","options":["x","y"]})" +
                              "\n" + R"({"context":"c","input":"i","answer":[7]})");
  INFO((questions ? "" : questions.error().what));
  REQUIRE(questions);
  REQUIRE(questions->size() == 3);
  const LongQuestion& first = questions->front();
  CHECK(first.place == "q.jsonl:2");
  CHECK(first.context == "The pass key is 71432.");
  CHECK(first.question == "What is the pass key?");
  CHECK(first.answers == std::vector<std::string>{"71432", "71,432"});
  CHECK(first.options.empty());
  CHECK((*questions)[1].answers == std::vector<std::string>{"one"});
  CHECK((*questions)[1].options == std::vector<std::string>{"x", "y"});
  CHECK((*questions)[2].answers == std::vector<std::string>{"7"});
}

TEST_CASE("no more lines are read than asked for") {
  const auto questions = read(std::string(kGood) + "\n" + kGood + "\nnot JSON\n", 2);
  REQUIRE(questions);
  CHECK(questions->size() == 2);
}

TEST_CASE("what is wrong in a line is said with file and line") {
  struct Case {
    std::string line, error;
  };
  const std::string deep(1000, '[');
  const auto item = GENERATE_COPY(values<Case>({
      {"not JSON", "q.jsonl:2: not JSON at byte"},
      {"{\"context\": \"a", "q.jsonl:2: not JSON at byte"},
      {std::string("{\"context\": \"a\0\"}", 16), "q.jsonl:2: not JSON at byte"},
      {"{\"context\": \"caf\xe9\"}", "q.jsonl:2: not JSON at byte"},
      {deep, "q.jsonl:2: nested deeper than 64"},
      {"[1, 2]", "q.jsonl:2: got [1,2], expected an object"},
      {"{}", "q.jsonl:2: context: missing, expected a string"},
      {R"({"context": "", "input": "i", "answer": "a"})",
       "q.jsonl:2: context: got \"\", expected a text that is not empty"},
      {R"({"context": 3, "input": "i", "answer": "a"})", "context: got 3, expected a string"},
      {R"({"context": "c", "answer": "a"})", "q.jsonl:2: input: missing, expected a string"},
      {R"({"context": "c", "input": "i"})", "q.jsonl:2: answer: missing, expected a text or"},
      {R"({"context": "c", "input": "i", "answer": []})", "answer: got [], expected a text or"},
      {R"({"context": "c", "input": "i", "answer": [" "]})",
       "answer: got [\" \"], expected texts that are not empty"},
      {R"({"context": "c", "input": "i", "answer": [1, 2, 3]})",
       "answer: got a list of 3 numbers, expected a text or number, or a list of texts"},
      {R"({"context": "c", "input": "i", "answer": {"a": 1}})", "answer: got {\"a\":1}"},
      {R"({"context": "c", "input": "i", "answer": [null]})", "answer: got [null]"},
      {R"({"context": "c", "input": "i", "answer": "a", "options": {"a": 1}})",
       "options: got {\"a\":1}, expected a list of texts"},
      {R"({"context": "c", "context": "d", "input": "i", "answer": "a"})",
       "q.jsonl:2: key \"context\" is there twice"},
  }));
  const auto questions = read(std::string(kGood) + "\n" + item.line + "\n" + kGood);
  REQUIRE(!questions);
  INFO(questions.error().what);
  CHECK(questions.error().code == Code::schema);
  CHECK(questions.error().what.find(item.error) != std::string::npos);
}

TEST_CASE("a file without questions, and no file, are errors") {
  for (const std::string text : {"", "\n\n", "  \r\n"}) {
    const auto questions = read(text);
    REQUIRE(!questions);
    CHECK(questions.error().what ==
          "q.jsonl: found no question, expected one JSON object with context, input and answer a "
          "line");
  }
  const TemporaryFolder folder;
  CHECK(load_infinitebench(folder.path() / "absent.jsonl", 1).error().code == Code::io);
  CHECK(load_infinitebench(folder.path(), 1).error().code == Code::io);
  write_file(folder.path() / "q.jsonl", kGood);
  CHECK(load_infinitebench(folder.path() / "q.jsonl", 1));
}

TEST_CASE("a prompt is context, question and answer, its context cut in the middle") {
  const auto model = Model::open(kTestData / "tiny-llama");
  REQUIRE(model);
  const Tokenizer& tokenizer = *(*model)->tokenizer();
  std::string context;
  for (int i = 0; i < 40; ++i) context += "line " + std::to_string(i) + "\n";
  const std::vector<LongQuestion> questions = {
      {"q:1", context, "Which?", {" blue", "green"}, {"blue", "red"}},
      {"q:2", "short", "Which?", {"red"}, {}}};
  const std::string end = "\n\nWhich?\nA. blue\nB. red\nAnswer:";
  const auto text_of = [&](const Question& question) {
    return tokenizer.decode(question.sample.ids).value();
  };
  const auto whole = infinitebench_cell("task", questions, 100000, tokenizer);
  REQUIRE(whole);
  REQUIRE(whole->questions.size() == 2);
  CHECK(text_of(whole->questions[0]) == context + end + " blue");
  CHECK(!whole->questions[0].cut);
  CHECK(whole->questions[0].accepted == std::vector<std::string>{"blue", "green"});
  CHECK(text_of(whole->questions[1]) == "short\n\nWhich?\nAnswer: red");
  CHECK(whole->length == whole->questions[0].sample.length());
  for (const int64_t longest : {120, 121}) {
    const auto cut = infinitebench_cell("task", questions, longest, tokenizer);
    REQUIRE(cut);
    const Question& question = cut->questions[0];
    CHECK(question.cut);
    CHECK(!cut->questions[1].cut);
    CHECK(question.sample.length() == longest);
    CHECK(question.sample.answer_end == longest);
    const std::string text = text_of(question);
    CHECK(text.starts_with("line 0\nline 1\n"));
    CHECK(text.ends_with("line 39\n" + end + " blue"));
  }
  const auto none = infinitebench_cell("task", questions, 20, tokenizer);
  REQUIRE(!none);
  CHECK(none.error().what.find("q:1: question and answer have ") == 0);
}

TEST_CASE("an answer is found as whole words, in whatever case") {
  const std::vector<std::string> accepted = {"48213", "Mr. X"};
  for (const char* text : {"48213", " It is 48213.", "mr. x did it", "\"48213\"", "148213 48213"})
    CHECK(contains_answer(text, accepted));
  for (const char* text : {"", "4821", "482130", "148213", "amr. x", "mr. xy"})
    CHECK(!contains_answer(text, accepted));
  CHECK(!contains_answer("anything", std::vector<std::string>{""}));
}

}  // namespace
}  // namespace mi::search
