// SentencePiece's kinds of tokenizers against the packages sentencepiece and tokenizers.
#include "libsearch/model/sentencepiece.h"

#include <catch2/catch.hpp>

#include <chrono>

#include <nlohmann/json.hpp>

#include "libsearch/model/piece_tokenizer.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

const std::filesystem::path kModels = kTestData / "sentencepiece";

const Json& golden() {
  static const Json json = Json::parse(read_file(kModels / "golden.json"));
  return json;
}

// A directory with a tokenizer.model and files beside it.
class Directory {
 public:
  explicit Directory(std::string_view model) { write_file(path() / "tokenizer.model", model); }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
  Directory& with(const std::string& name, const Json& json) {
    write_file(path() / name, json.dump());
    return *this;
  }
  [[nodiscard]] std::unique_ptr<Tokenizer> open() const {
    auto tokenizer = open_sentencepiece(path());
    INFO((tokenizer ? "" : tokenizer.error().what));
    REQUIRE(tokenizer);
    return *std::move(tokenizer);
  }
  [[nodiscard]] Status error() const {
    const auto tokenizer = open_sentencepiece(path());
    REQUIRE_FALSE(tokenizer);
    return tokenizer.error();
  }

 private:
  TemporaryFolder folder_;
};

Ids operator+(Ids left, const Ids& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

void check_ids(const Tokenizer& tokenizer, const Json& want) {
  for (size_t i = 0; i < golden()["texts"].size(); ++i) {
    const auto text = golden()["texts"][i].get<std::string>();
    INFO(text);
    const auto ids = tokenizer.encode(text);
    REQUIRE(ids);
    CHECK(*ids == want[i].get<Ids>());
    for (const int32_t id : *ids) CHECK((id >= 0 && id < tokenizer.vocab()));
  }
}

TEST_CASE("tokenizer.model gives the ids of the package sentencepiece") {
  struct Case {
    std::string name, prefix;
    bool decodes;
    Ids start;
  };
  for (const Case& test_case : {Case{"llama", " ", true, {1}}, Case{"gemma", "", true, {2}},
                                Case{"unigram", " ", true, {1}}, Case{"rules", "", false, {}}}) {
    INFO(test_case.name);
    const auto tokenizer = Directory(read_file(kModels / (test_case.name + ".model"))).open();
    check_ids(*tokenizer, golden()["models"][test_case.name]);
    CHECK(std::ranges::equal(tokenizer->start(), test_case.start));
    if (!test_case.decodes) continue;  // its rules lose what was written
    for (const Json& text : golden()["texts"])
      if (text != "")
        CHECK(*tokenizer->decode(*tokenizer->encode(text.get<std::string>())) ==
              test_case.prefix + text.get<std::string>());
  }
}

TEST_CASE("Unigram and Gemma's tokenizer.json give the ids of Hugging Face's tokenizers") {
  for (const Json& variant : golden()["variants"]) {
    INFO(variant["name"]);
    Json json = golden()["bases"][variant["base"].get<std::string>()];
    json.merge_patch(variant["patch"]);
    const auto tokenizer = parse_tokenizer_json(json.dump(), "tokenizer.json");
    INFO((tokenizer ? "" : tokenizer.error().what));
    REQUIRE(tokenizer);
    check_ids(**tokenizer, variant["ids"]);
  }
}

TEST_CASE("Unigram takes the cut of the greatest sum") {
  Json json = Json::parse(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [
    ["<unk>", 0], ["a", -1], ["b", -2], ["ab", -4], ["c", -5], ["bc", -5], ["abc", -7]]}})");
  const auto ids = [&](std::string_view text) {
    return *(*parse_tokenizer_json(json.dump(), "f"))->encode(text);
  };
  CHECK(ids("ab") == Ids{1, 2});       // -3 against -4
  CHECK(ids("abc") == Ids{1, 5});      // -6 against -7, -8 and -9
  CHECK(ids("xyab") == Ids{0, 1, 2});  // unknown ones in a row are one
  CHECK(ids("xay\xc3\xa9") == Ids{0, 1, 0});
  json["model"]["unk_id"] = nullptr;
  const auto tokenizer = parse_tokenizer_json(json.dump(), "f");
  CHECK(*(*tokenizer)->encode("ab") == Ids{1, 2});
  CHECK((*tokenizer)->encode("axy").error().what ==
        "text: no piece for \"xy\", and the tokenizer has none for unknown ones");
  for (const auto& [vocab, says] :
       {std::pair{R"([["a"]])", "vocab: piece 0: expected a string and its score"},
        std::pair{R"([["a", 0], [1, 0]])", "vocab: piece 1: expected a string and its score"}}) {
    json["model"]["vocab"] = Json::parse(vocab);
    CHECK_THAT(parse_tokenizer_json(json.dump(), "f").error().what, Catch::Contains(says));
  }
}

TEST_CASE("tokens that the files beside tokenizer.model name are found in text") {
  Directory directory(read_file(kModels / "llama.model"));
  const Ids a = *directory.open()->encode("a");
  const Ids b = *directory.open()->encode("b");
  CHECK(*directory.open()->encode("<s>a</s>b<unk>") == Ids{1} + a + Ids{2} + b + Ids{0});
  directory.with("added_tokens.json", {{"<pad>", 480}, {"<|end|>", 481}});
  CHECK(directory.open()->vocab() == 482);
  CHECK(*directory.open()->encode("a<|end|> b") == a + Ids{481} + *directory.open()->encode(" b"));
  // Its entries say more than the list, and count before it.
  directory.with("tokenizer_config.json",
                 {{"added_tokens_decoder",
                   {{"1", {{"content", "<s>"}, {"special", true}}},
                    {"481", {{"content", "<|end|>"}, {"rstrip", true}, {"normalized", true}}},
                    {"482", {{"content", "<|user|>"}}}}}});
  CHECK(directory.open()->vocab() == 483);
  CHECK(*directory.open()->encode("a<|end|> b<|user|>") == a + Ids{481} + b + Ids{482});
  // "\xe2\x96\x81the" is a piece of the model; special, it is found as it is written.
  const Ids the = *directory.open()->encode("the");
  REQUIRE(the.size() == 1);
  directory.with("special_tokens_map.json",
                 {{"additional_special_tokens", {"\xe2\x96\x81the", "<never>"}},
                  {"bos_token", {{"content", "<s>"}}}});
  CHECK(*directory.open()->encode("a\xe2\x96\x81the") == a + the);
  CHECK(*directory.open()->decode(Ids{480, 1, 482}) == "<pad><s><|user|>");
}

TEST_CASE("what text begins with is as tokenizer_config.json says") {
  Directory directory(read_file(kModels / "llama.model"));
  const auto start = [&](const Json& config) {
    const auto tokenizer = directory.with("tokenizer_config.json", config).open();
    return Ids(tokenizer->start().begin(), tokenizer->start().end());
  };
  CHECK(start({{"add_bos_token", false}}).empty());
  CHECK(start({{"add_bos_token", true}}) == Ids{1});
  CHECK(start({{"bos_token", "</s>"}}) == Ids{2});
  CHECK(start({{"bos_token", {{"content", "</s>"}}}}) == Ids{2});
  CHECK_THAT(
      directory.with("tokenizer_config.json", {{"bos_token", "<never>"}}).error().what,
      Catch::Contains("tokenizer_config.json: bos_token: got \"<never>\", expected a token"));
  // The space before text: before what follows an added token too, unless it is not "legacy".
  directory.with("tokenizer_config.json", {{"legacy", true}});
  const Ids a = *directory.open()->encode("a");
  CHECK(*directory.open()->encode("a<s>a") == a + Ids{1} + a);
  directory.with("tokenizer_config.json", {{"legacy", false}});
  CHECK(*directory.open()->encode("a") == a);
  CHECK(*directory.open()->encode("a<s> a") == a + Ids{1} + a);
  CHECK(*directory.open()->encode("<s>a") != Ids{1} + a);
}

TEST_CASE("a tokenizer.model that is none is one error") {
  const std::string llama = read_file(kModels / "llama.model");
  const std::string rules = read_file(kModels / "rules.model");
  const auto replaced = [](std::string bytes, std::string_view from, std::string_view to) {
    REQUIRE(bytes.find(from) != std::string::npos);
    return bytes.replace(bytes.find(from), from.size(), to);
  };
  struct Case {
    std::string bytes;
    Code code;
    std::string_view says;
  };
  const Case cases[] = {
      {"", Code::schema, "expected SentencePiece's model: unk is not defined"},
      {"{\"a\": 1}", Code::schema, "at byte 0 of 8: found no whole field, expected a protobuf"},
      {llama.substr(0, 1000), Code::schema, "of 1000: found no whole field"},
      {"IQ== 0\nIg== 1\n", Code::unsupported, "got a list of tiktoken, supported: SentencePiece"},
      {std::string("\x0a\x03\x0a\x01\x61", 5), Code::schema, "unk is not defined"},
      {llama + std::string("\x0a\x03\x0a\x01\x61", 5), Code::schema, "expected SentencePiece"},
      {llama + std::string("\x0a\x08\x0a\x01\x07\x15\x00\x00\xc0\x7f", 10), Code::schema,
       "piece 480: got score nan, expected a number"},
      {llama + std::string("\x1a\x04\x12\x02\x01\x02", 6), Code::schema,
       "precompiled_charsmap: got 2 bytes"},
      {llama + std::string("\x1a\x0b\x12\x09\x04\0\0\0\0\x04\0\0\0", 13), Code::schema,
       "precompiled_charsmap: unit 0 leads out of it"},
      {replaced(rules, "\xe2\x80\xa6", std::string_view("\xe2\x80\0", 3)), Code::ok, ""},
  };
  for (const Case& test_case : cases) {
    INFO(test_case.says);
    const Directory directory(test_case.bytes);
    if (test_case.code == Code::ok) {
      CHECK(directory.open()->encode("a...b"));
      continue;
    }
    const Status status = directory.error();
    CHECK(status.code == test_case.code);
    CHECK_THAT(status.what, Catch::StartsWith((directory.path() / "tokenizer.model").string()));
    CHECK_THAT(status.what, Catch::Contains(std::string(test_case.says)));
  }
  Directory directory(read_file(kModels / "llama.model"));
  for (const auto& [file, text, says] :
       {std::tuple{"tokenizer_config.json", "[]", "expected an object"},
        std::tuple{"tokenizer_config.json", R"({"add_bos_token": 1})", "expected true or false"},
        std::tuple{"tokenizer_config.json",
                   R"({"added_tokens_decoder": {"99999999": {"content": "x"}}})",
                   "expected ids up"},
        std::tuple{"tokenizer_config.json",
                   R"({"added_tokens_decoder": {"1": {"content": "", "special": true}}})",
                   "expected non-empty UTF-8"},
        std::tuple{"added_tokens.json", R"({"x": -1})", "added_tokens.json: x: got -1"},
        std::tuple{"special_tokens_map.json", "{", "not JSON at byte"}}) {
    write_file(directory.path() / file, text);
    CHECK_THAT(directory.error().what, Catch::Contains(says));
    std::filesystem::remove(directory.path() / file);
  }
}

TEST_CASE("a model directory with tokenizer.model only has a tokenizer") {
  const TemporaryFolder folder;
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(kTestData / "tiny-llama" / name, folder.path() / name);
  std::filesystem::copy_file(kModels / "rules.model", folder.path() / "tokenizer.model");
  const auto model = Model::open(folder.path());
  REQUIRE(model);
  REQUIRE((*model)->tokenizer() != nullptr);
  CHECK((*model)->tokenizer()->vocab() == 300);
  write_file(folder.path() / "tokenizer.json", read_file(kTestData / "tiny-llama/tokenizer.json"));
  CHECK((*Model::open(folder.path()))->tokenizer()->vocab() == 320);  // it comes first
  std::filesystem::remove(folder.path() / "tokenizer.json");
  write_file(folder.path() / "tokenizer.model", "IQ== 0\n");
  CHECK_THAT((*Model::open(folder.path()))->tokenizer_status().what,
             Catch::Contains("got a list of tiktoken"));
  std::filesystem::copy_file(kModels / "llama.model", folder.path() / "tokenizer.model",
                             std::filesystem::copy_options::overwrite_existing);
  CHECK_THAT(Model::open(folder.path()).error().what,
             Catch::Contains("tokenizer.model: the tokenizer has 480 ids, the model 320"));
}

TEST_CASE("long texts of SentencePiece's kinds cost n log n") {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* name : {"llama.model", "unigram.model", "rules.model"})
    tokenizers.push_back(Directory(read_file(kModels / name)).open());
  for (const char* name : {"gemma", "unigram"})
    tokenizers.push_back(*parse_tokenizer_json(golden()["bases"][name].dump(), "f"));
  for (const std::string_view unit : {"a", "the ", " ", "\xc3\xa9", "\xe2\x96\x81"}) {
    std::string text;
    while (text.size() < 100'000) text += unit;
    for (const auto& tokenizer : tokenizers) {
      const auto start = std::chrono::steady_clock::now();
      REQUIRE(tokenizer->encode(text));
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      CHECK(seconds.count() < 30);
    }
  }
}

}  // namespace
}  // namespace mi::search
