#include <catch2/catch.hpp>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "libsearch/data/sample.h"
#include "tests/support.h"
#include "tests/temporary_folder.h"

namespace mi::search {
namespace {

namespace fs = std::filesystem;

// One token per byte: counts of tokens can be checked by eye.
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(std::vector<int32_t> start = {}) : start_(std::move(start)) {}
  [[nodiscard]] std::span<const int32_t> start() const override { return start_; }
  Result<std::vector<int32_t>> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  Result<std::string> decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += static_cast<char>(id);
    return text;
  }
  int vocab() const override { return 256; }

 private:
  std::vector<int32_t> start_;
};

struct Folder : test::TemporaryFolder {
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path() / name, std::ios::binary) << text;
    return path() / name;
  }
};

fs::path text_path(int index) {
  return fs::path(MI_SOURCE_DIR) / "calib_data/texts" / ("text-0" + std::to_string(index) + ".txt");
}

SampleSpec spec_of(const std::string& kind, uint64_t seed) {
  SampleSpec spec;
  spec.kind = kind;
  spec.seed = seed;
  if (kind != "kv_retrieval") spec.texts = {text_path(0), text_path(1)};
  return spec;
}

std::string text_of(const Sample& sample) {
  return ByteTokenizer().decode(sample.ids).value();
}
std::string answer_of(const Sample& sample) {
  return text_of(sample).substr(static_cast<size_t>(sample.answer_begin),
                                static_cast<size_t>(sample.answer_end - sample.answer_begin));
}

Sample make(const SampleSpec& spec, int64_t length, uint64_t seed = 0) {
  auto sample = make_sample(spec, length, seed, ByteTokenizer());
  INFO((sample ? "" : sample.error().what));
  REQUIRE(sample);
  return *sample;
}

std::string error_of(const SampleSpec& spec, int64_t length) {
  const auto sample = make_sample(spec, length, 0, ByteTokenizer());
  REQUIRE(!sample);
  return sample.error().what;
}

const std::string kRecipe = R"(schema: mi.recipe
schema_version: 1
name: small
lengths: [512, 4096]
calibration:
- {kind: text, texts: [a.txt, b.txt], start: 7}
- {kind: needle, texts: [a.txt], seed: 1, part: [0, 0.5]}
- {kind: kv_retrieval, seed: 2}
held_out:
- {kind: needle, texts: [c.txt], seed: 3}
- {kind: kv_retrieval, seed: 4}
)";

std::string recipe_error(const std::string& from, const std::string& to) {
  std::string text = kRecipe;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  const auto recipe = parse_recipe(text.replace(at, from.size(), to), "r.yaml", "/data");
  if (recipe) return "accepted";
  CHECK(recipe.error().code == Code::schema);
  return recipe.error().what;
}

}  // namespace

TEST_CASE("a sample begins with what every text began with in training") {
  SampleSpec spec;
  spec.kind = GENERATE(as<std::string>(), "text", "needle", "multi_key");
  spec.texts = {text_path(0)};
  const auto plain = make_sample(spec, 1022, 0, ByteTokenizer());
  const auto started = make_sample(spec, 1024, 0, ByteTokenizer({7, 9}));
  INFO((started ? "" : started.error().what));
  REQUIRE(plain);
  REQUIRE(started);
  REQUIRE(started->length() == 1024);
  CHECK(started->ids[0] == 7);
  CHECK(started->ids[1] == 9);
  CHECK(std::vector(started->ids.begin() + 2, started->ids.end()) == plain->ids);
  CHECK(started->answer_begin == plain->answer_begin + 2);
  CHECK(started->answer_end == plain->answer_end + 2);
}

TEST_CASE("every kind gives exactly the tokens asked for, and the same ones again") {
  const auto kind = GENERATE(as<std::string>(), "text", "needle", "kv_retrieval", "repeat",
                             "multi_key", "multi_query", "variable_tracking");
  const auto length = GENERATE(as<int64_t>(), 512, 513, 577, 1000, 4096, 20001);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Sample sample = make(spec_of(kind, kind == "text" ? 0 : seed), length);
    CHECK(sample.length() == length);
    CHECK(sample.answer_begin <= sample.answer_end);
    CHECK(sample.answer_end == length);
    CHECK(sample.sha256.size() == 64);
    CHECK(sample.source.find('/') == std::string::npos);
    const Sample again = make(spec_of(kind, kind == "text" ? 0 : seed), length);
    CHECK(again.ids == sample.ids);
    CHECK(again.sha256 == sample.sha256);
    if (kind != "text") {
      const Sample shifted = make(spec_of(kind, 0), length, seed);
      CHECK(shifted.ids == sample.ids);
      CHECK(shifted.source == sample.source);
    }
  }
}

TEST_CASE("seeds and lengths give different samples") {
  for (const std::string kind :
       {"needle", "kv_retrieval", "repeat", "multi_key", "multi_query", "variable_tracking"}) {
    std::set<std::string> digests;
    for (uint64_t seed = 0; seed < 20; ++seed)
      digests.insert(make(spec_of(kind, seed), 2000).sha256);
    CHECK(digests.size() == 20);
  }
}

// Frozen: a change here changes every published config.
TEST_CASE("samples are the same on every machine") {
  CHECK(make(spec_of("text", 0), 600).sha256 ==
        "9d81f4214ddfb2d7e5d08729f141be2ecb48b1ddca808d8e348867c66f20f108");
  CHECK(make(spec_of("needle", 7), 600).sha256 ==
        "9977c92459275976d0e75a029b66e0f7c9d9de1491163f51dd6a6b4681ebfdc8");
  CHECK(make(spec_of("kv_retrieval", 7), 600).sha256 ==
        "9368da34276ce7fd940bbe2cca7abfc82aaff72772c88ce13d73e239ed5d01fd");
  CHECK(make(spec_of("repeat", 7), 600).sha256 ==
        "bf306cfc5b7458a804ff35df0b704f5cd05f1f207ac2a73bad8f6f1bc2d18769");
  CHECK(make(spec_of("multi_key", 7), 600).sha256 ==
        "469c609958620a449aa2a7a1ff1bcffca96c8988c97c3f1bfb3a6d05d41cbe82");
  CHECK(make(spec_of("multi_query", 7), 600).sha256 ==
        "75227df7f36ac4d2614557a7bba0e3e1aaee48412497b1b2d81d6990c68ada83");
  CHECK(make(spec_of("variable_tracking", 7), 600).sha256 ==
        "24a961974f38c0fba193f2fa3dbcbcb569a6734a80a771eb9f4191b56e0a8977");
}

TEST_CASE("the digest is SHA-256 of the ids as little-endian int32") {
  const std::vector<int32_t> ids = {1, 256, 65536};
  const auto sample = sample_from_ids(ids, 0, 3, "ids.txt");
  REQUIRE(sample);
  CHECK(sample->sha256 == "18f227e203ebcfcde7b9a799ed2da0c36f4335727701cfbdfef86d1e8f42b166");
  CHECK(sample->kind == "tokens");
  CHECK(!sample_from_ids(ids, 1, 3, "ids.txt"));
  CHECK(sample_from_ids(ids, 2, 1, "ids.txt")->ids == std::vector<int32_t>{65536});
}

TEST_CASE("text is the files one after the other from the token asked for") {
  const Folder folder;
  SampleSpec spec;
  spec.kind = "text";
  spec.texts = {folder.write("a.txt", "abc\n"), folder.write("b.txt", "defgh")};
  CHECK(text_of(make(spec, 9)) == "abc\ndefgh");
  spec.start = 2;
  CHECK(text_of(make(spec, 4)) == "c\nde");
  CHECK(make(spec, 4).source == "text a.txt+b.txt from token 2");
}

TEST_CASE("kv_retrieval asks for one key of its object and ends in its value") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Sample sample = make(spec_of("kv_retrieval", seed), 1500 + static_cast<int64_t>(seed));
    const std::string text = text_of(sample);
    const std::string answer = answer_of(sample);
    CHECK(answer.size() == 36);
    const size_t asked = text.rfind("Key: \"") + 6;
    const std::string pair = "\"" + text.substr(asked, 36) + "\": \"" + answer + "\"";
    CHECK(text.find(pair) < asked);
    CHECK(text.ends_with("is: \"" + answer));
  }
}

TEST_CASE("a needle lies whole in the text and its number is the answer") {
  std::set<size_t> depths;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Sample sample = make(spec_of("needle", seed), 6000);
    const std::string text = text_of(sample);
    const std::string answer = answer_of(sample);
    REQUIRE(answer.size() == 6);
    const size_t needle = text.find("The secret number of ");
    REQUIRE(needle != std::string::npos);
    const size_t end = text.find(".\n\n", needle);
    CHECK(text.substr(end - 6, 6) == answer);
    const std::string sentence = text.substr(needle, end - 6 - needle);
    CHECK(text.ends_with("Answer: " + sentence + answer));
    depths.insert(needle / 1000);
  }
  CHECK(depths.size() >= 5);  // spread over the six thousands
}

TEST_CASE("a needle lies at the depth asked for, to half a paragraph") {
  constexpr int64_t kLength = 6000;
  for (const double depth : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    for (const std::string kind : {"needle", "multi_key"}) {
      SampleSpec spec = spec_of(kind, 3);
      spec.depth = depth;
      const Sample sample = make(spec, kLength);
      const std::string text = text_of(sample);
      const size_t asked = text.rfind("\nAnswer: ") + 9;
      const std::string sentence = text.substr(asked) + ".\n\n";
      const auto at = static_cast<double>(text.find(sentence));
      const auto question = static_cast<double>(text.find("\n\nQuestion: "));
      INFO(kind << " depth " << depth << " at " << at << " of " << question);
      // Paragraphs are split to 192 tokens; eight facts of 43 move the others along.
      CHECK(std::abs(at - depth * question) < 96 + 8 * 43);
      if (depth == 0 && kind == "needle") CHECK(at == 0);
      if (depth == 1)
        CHECK(text.find("The secret", static_cast<size_t>(at) + sentence.size()) >
              static_cast<size_t>(question) - 8 * 43);
    }
  }
}

TEST_CASE("one of eight facts with distinct keys and numbers is asked for") {
  const std::string kind = GENERATE("multi_key", "multi_query");
  const std::regex fact("The ([a-z ]+( of [A-Z][a-z]+)?) is ([0-9]{5})\\.\n\n");
  std::set<std::string> subjects_asked;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Sample sample = make(spec_of(kind, seed), 3000);
    const std::string text = text_of(sample);
    const size_t question = text.find("\n\nQuestion: What is the ");
    REQUIRE(question != std::string::npos);
    const size_t asked_at = question + 24;
    const std::string asked = text.substr(asked_at, text.find('?', asked_at) - asked_at);
    std::map<std::string, std::string> number_of;
    std::set<std::string> numbers;
    for (std::sregex_iterator at(text.begin(), text.begin() + static_cast<int64_t>(question), fact);
         at != std::sregex_iterator(); ++at) {
      number_of[at->str(1)] = at->str(3);
      numbers.insert(at->str(3));
    }
    CHECK(number_of.size() == 8);
    CHECK(numbers.size() == 8);
    CHECK(answer_of(sample) == " " + number_of[asked]);
    CHECK(text.substr(asked_at + asked.size()).starts_with("?\nAnswer: The " + asked + " is "));
    subjects_asked.insert(asked);
  }
  CHECK(subjects_asked.size() > 10);
}

TEST_CASE("variables are assigned in a chain whose names, in order, are the answer") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const std::string text = text_of(make(spec_of("variable_tracking", seed), 3000));
    const size_t question = text.find("\n\nQuestion: ");
    std::string answer;
    std::set<std::string> names;
    std::string value = text.substr(text.find(" value ", question) + 7, 5);
    size_t at = 0;
    for (int i = 0; i < 5; ++i) {
      at = text.find(" = " + value + "\n\n", at);
      REQUIRE(at < question);
      const std::string name = text.substr(at - 5, 5);
      CHECK(text.substr(at - 9, 4) == "VAR ");
      answer += (i == 0 ? " " : ", ") + name;
      names.insert(name);
      value = "VAR " + name;
    }
    CHECK(names.size() == 5);
    CHECK(answer_of(make(spec_of("variable_tracking", seed), 3000)) == answer);
  }
}

TEST_CASE("a repeated passage comes back and ends the sample") {
  const Sample sample = make(spec_of("repeat", 5), 4096);
  const std::string text = text_of(sample);
  const std::string passage = text.substr(0, 256);
  CHECK(text.ends_with(passage));
  size_t times = 0;
  for (size_t at = 0; (at = text.find(passage, at)) != std::string::npos; ++at) ++times;
  CHECK(times == 7);
}

TEST_CASE("a text too short for the length is an error with names and numbers") {
  const Folder folder;
  SampleSpec spec;
  spec.texts = {folder.write("tiny.txt", "only this"), folder.write("empty.txt", "")};
  for (const std::string kind :
       {"text", "needle", "repeat", "multi_key", "multi_query", "variable_tracking"}) {
    spec.kind = kind;
    const std::string error = error_of(spec, 1000);
    INFO(error);
    CHECK(error.find("tiny.txt") != std::string::npos);
    CHECK(error.find("empty.txt: found ") != std::string::npos);
    CHECK(error.find("expected at least") != std::string::npos);
  }
  spec.kind = "text";
  CHECK(error_of(spec, 1000).find("found 9 tokens, expected at least 1000") != std::string::npos);
  spec.texts = {folder.path() / "absent.txt"};
  CHECK(make_sample(spec, 10, 0, ByteTokenizer()).error().code == Code::io);
  spec.texts = {folder.write("latin.txt", "caf\xe9 au lait")};
  CHECK(error_of(spec, 5).find("latin.txt: not valid UTF-8 at byte 3") != std::string::npos);
}

TEST_CASE("a length that a kind cannot fill, or no length, is refused") {
  CHECK(error_of(spec_of("needle", 1), 20).find("needs at least") != std::string::npos);
  CHECK(error_of(spec_of("kv_retrieval", 1), 100).find("needs at least") != std::string::npos);
  CHECK(error_of(spec_of("multi_key", 1), 100).find("needs at least") != std::string::npos);
  CHECK(error_of(spec_of("variable_tracking", 1), 100).find("needs at least") != std::string::npos);
  CHECK(error_of(spec_of("repeat", 1), 10).find("needs at least 64") != std::string::npos);
  CHECK(error_of(spec_of("text", 0), 0).find("length: found 0") != std::string::npos);
  CHECK(error_of(spec_of("poem", 0), 10).find("found 'poem'") != std::string::npos);
}

TEST_CASE("parts of a text are disjoint, cover it, and are cut at line ends") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += "line " + std::to_string(i) + "\n";
  SampleSpec spec;
  spec.kind = "text";
  spec.texts = {folder.write("a.txt", text)};
  SampleSpec rest = spec;
  spec.part_end = rest.part_begin = 0.5;
  std::string first, second;
  for (int64_t length = 1; make_sample(spec, length, 0, ByteTokenizer()); ++length)
    first = text_of(make(spec, length));
  for (int64_t length = 1; make_sample(rest, length, 0, ByteTokenizer()); ++length)
    second = text_of(make(rest, length));
  CHECK(first + second == text);
  CHECK(first.ends_with("\n"));
  CHECK(first.size() > text.size() * 45 / 100);
}

TEST_CASE("a recipe from the user's texts keeps calibration and certificate apart") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "line " + std::to_string(i) + ".\n\n";
  const std::vector<fs::path> texts = {folder.write("a.txt", text)};
  const Recipe recipe = recipe_from_texts(texts, {4096, 512, 512});
  CHECK(recipe.lengths == std::vector<int64_t>{512, 4096});
  CHECK(recipe.calibration.size() == 4);
  CHECK(recipe.held_out.size() == 3);
  for (const SampleSpec& spec : recipe.calibration) {
    const Sample sample = make(spec, 4096);
    if (spec.kind == "text") CHECK(text_of(sample).find("line 1999.") == std::string::npos);
  }
  for (const SampleSpec& spec : recipe.held_out)
    CHECK(text_of(make(spec, 4096)).find("line 10.") == std::string::npos);
}

TEST_CASE("the default recipe covers every kind at two lengths") {
  const auto recipe = load_recipe(fs::path(MI_SOURCE_DIR) / "calib_data/default.yaml");
  INFO((recipe ? "" : recipe.error().what));
  REQUIRE(recipe);
  CHECK(recipe->lengths.size() == 2);
  CHECK(recipe->lengths.back() == 8192);
  std::set<std::string> kinds;
  for (const SampleSpec& spec : recipe->calibration) kinds.insert(spec.kind);
  CHECK(kinds == std::set<std::string>{"text", "needle", "kv_retrieval", "repeat"});
  for (const auto* specs : {&recipe->calibration, &recipe->held_out})
    for (const SampleSpec& spec : *specs)
      for (const int64_t length : recipe->lengths) CHECK(make(spec, length).length() == length);
}

TEST_CASE("a recipe is read field by field") {
  const auto recipe = parse_recipe(kRecipe, "r.yaml", "/data");
  INFO((recipe ? "" : recipe.error().what));
  REQUIRE(recipe);
  CHECK(recipe->name == "small");
  CHECK(recipe->lengths == std::vector<int64_t>{512, 4096});
  REQUIRE(recipe->calibration.size() == 3);
  CHECK(recipe->calibration[0].texts == std::vector<fs::path>{"/data/a.txt", "/data/b.txt"});
  CHECK(recipe->calibration[0].start == 7);
  CHECK(recipe->calibration[1].part_end == 0.5);
  CHECK(recipe->calibration[2].seed == 2);
  CHECK(recipe->held_out.size() == 2);
}

TEST_CASE("what is wrong in a recipe is said with its place") {
  struct Case {
    std::string from, to, error;
  };
  const auto item = GENERATE(values<Case>({
      {"name: small", "names: small", "r.yaml:3:1: found unknown key 'names'"},
      {"schema_version: 1", "schema_version: 2", "found schema_version 2, expected at most 1"},
      {"[512, 4096]", "[4096, 512]", "expected ascending lengths, above 4096"},
      {"[512, 4096]", "[]", "found no lengths"},
      {"[512, 4096]", "[0]", "found '0', expected an integer from 1"},
      {"kind: text", "kind: poem", "r.yaml:6:10: found 'poem', expected one of text, kv_retrieval"},
      {"start: 7", "start: -7", "found '-7'"},
      {"start: 7", "seed: 7", "found 'seed', expected none for kind text"},
      {"kv_retrieval, seed: 2", "kv_retrieval", "found no key 'seed'"},
      {"kv_retrieval, seed: 2", "kv_retrieval, seed: 2, texts: [a]",
       "found 'texts', expected none"},
      {"[a.txt, b.txt]", "[]", "found no texts"},
      {"[a.txt, b.txt]", "a.txt", "found 'a.txt', expected a list"},
      {"[0, 0.5]", "[0.5, 0.5]", "found an empty part"},
      {"[0, 0.5]", "[0, 1.5]", "found '1.5', expected a number in [0, 1]"},
      {"[0, 0.5]", "[0]", "found 1 values"},
      {"texts: [c.txt]", "texts: [./b.txt]",
       "r.yaml:10:3: found b.txt in calibration and held_out"},
      {"texts: [c.txt], seed: 3", "texts: [c.txt], seed: 1", "found needle seed 1 in calibration"},
      {"seed: 4", "seed: 2", "found kv_retrieval seed 2 in calibration and held_out"},
      {"held_out:", "held_out: []\nx:", "found unknown key 'x'"},
  }));
  const std::string error = recipe_error(item.from, item.to);
  INFO(error);
  CHECK(error.find(item.error) != std::string::npos);
}

TEST_CASE("a held-out text that is a calibration text by another name is refused") {
  const Folder folder;
  folder.write("a.txt", "text");
  fs::create_symlink("a.txt", folder.path() / "b.txt");
  const std::string recipe =
      "schema: mi.recipe\nschema_version: 1\nname: r\nlengths: [512]\n"
      "calibration:\n- {kind: text, texts: [a.txt]}\nheld_out:\n- {kind: text, texts: [b.txt]}\n";
  const auto refused = parse_recipe(recipe, "r.yaml", folder.path());
  REQUIRE(!refused);
  CHECK(refused.error().what.find("a.txt in calibration and held_out") != std::string::npos);
}

TEST_CASE("token ids are read, and a wrong one is named with its line") {
  const Folder folder;
  const auto good = load_token_ids(folder.write("a", "1 2\n3\t4\r\n"), 5);
  REQUIRE(good);
  CHECK(*good == std::vector<int32_t>{1, 2, 3, 4});
  for (const std::string bad : {"1\n5", "1\n-1", "1\nx", "1\n2.0", "1\n99999999999"}) {
    const auto ids = load_token_ids(folder.write("b", bad), 5);
    REQUIRE(!ids);
    CHECK(ids.error().what.find("b:2: found '") != std::string::npos);
    CHECK(ids.error().what.find("expected a token id from 0 to 4") != std::string::npos);
  }
  CHECK(!load_token_ids(folder.write("c", " \n"), 5));
  CHECK(load_token_ids(folder.path() / "absent", 5).error().code == Code::io);
}

}  // namespace mi::search
