// Token ids against Hugging Face's tokenizers over hostile text, and what is refused.
#include "libsearch/model/tokenizer.h"

#include <catch2/catch.hpp>

#include <chrono>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "libsearch/model/piece_tokenizer.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

using Json = nlohmann::json;

Json tiny() {
  return Json::parse(read_file(kTestData / "tiny-llama" / "tokenizer.json"));
}

Result<std::unique_ptr<Tokenizer>> parse(const Json& json) {
  return parse_tokenizer_json(json.dump(), "tokenizer.json");
}

TEST_CASE("BPE merges the earliest rule first, leftmost on ties") {
  const Json json =
      Json::parse(R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"vocab": {"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "aa": 5, "aab": 6},
              "merges": ["b c", ["a", "b"], "a a", "a ab"]}})");
  const auto tokenizer = parse(json);
  REQUIRE(tokenizer);
  const auto ids = [&](std::string_view text) { return *(*tokenizer)->encode(text); };
  CHECK(ids("abc") == std::vector<int32_t>{0, 3});  // b c comes before a b
  CHECK(ids("ab") == std::vector<int32_t>{4});
  CHECK(ids("aaa") == std::vector<int32_t>{5, 0});   // the left pair
  CHECK(ids("aaab") == std::vector<int32_t>{5, 4});  // a b first, then the a a that is left
  CHECK(ids("aab") == std::vector<int32_t>{6});      // a b, then a ab
  CHECK(ids("azb") == std::vector<int32_t>{4});     // z has no token and is dropped, as in training
  CHECK(ids("a!b") == std::vector<int32_t>{0, 1});  // another word
  CHECK(ids("").empty());
}

TEST_CASE("token ids are those of Hugging Face's tokenizers") {
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_variants.json"));
  for (const Json& variant : golden["variants"]) {
    Json json = tiny();
    json.merge_patch(variant["patch"]);
    const auto tokenizer = parse(json);
    INFO(variant["name"]);
    REQUIRE(tokenizer);
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      INFO(golden["texts"][i]);
      const auto ids = (*tokenizer)->encode(golden["texts"][i].get<std::string>());
      REQUIRE(ids);
      CHECK(*ids == variant["ids"][i].get<std::vector<int32_t>>());
    }
  }
}

TEST_CASE("decoding gives the text back") {
  const auto tokenizer = parse(tiny());
  REQUIRE(tokenizer);
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_variants.json"));
  for (const Json& text : golden["texts"]) {
    const auto ids = (*tokenizer)->encode(text.get<std::string>());
    CHECK((*tokenizer)->decode(*ids) == text.get<std::string>());
  }
  CHECK((*tokenizer)->decode(std::vector<int32_t>{320}).error().what ==
        "token 0: got id 320, expected 0 to 319");
}

TEST_CASE("the tokenizer inside a GGUF file is the one of tokenizer.json") {
  const std::string bytes = read_file(kTestData / "tiny-llama.gguf");
  const auto file =
      GgufFile::parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "f.gguf");
  REQUIRE(file);
  const auto inside = read_gguf_tokenizer(*file);
  const auto json = parse(tiny());
  REQUIRE(inside);
  REQUIRE(json);
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_variants.json"));
  for (const Json& text : golden["texts"]) {
    CHECK(*(*inside)->encode(text.get<std::string>()) == *(*json)->encode(text.get<std::string>()));
  }
}

TEST_CASE("BPE by characters gives the ids of Hugging Face's tokenizers") {
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_characters.json"));
  for (const Json& variant : golden["variants"]) {
    Json json = golden["base"];
    json.merge_patch(variant["patch"]);
    const auto tokenizer = parse(json);
    INFO(variant["name"]);
    INFO((tokenizer ? "" : tokenizer.error().what));
    REQUIRE(tokenizer);
    CHECK(std::ranges::equal((*tokenizer)->start(), std::vector<int32_t>{1}));
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      INFO(golden["texts"][i]);
      const auto ids = (*tokenizer)->encode(golden["texts"][i].get<std::string>());
      REQUIRE(ids);
      CHECK(*ids == variant["ids"][i].get<std::vector<int32_t>>());
    }
  }
  const auto tokenizer = parse(golden["base"]);
  for (const Json& text : golden["texts"]) {
    const auto ids = (*tokenizer)->encode(text.get<std::string>());
    if (text != "") CHECK(*(*tokenizer)->decode(*ids) == " " + text.get<std::string>());
  }
}

TEST_CASE("SentencePiece inside a GGUF file gives SentencePiece's ids") {
  const std::string bytes = read_file(kTestData / "sentencepiece.gguf");
  const auto file =
      GgufFile::parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "f.gguf");
  REQUIRE(file);
  const auto tokenizer = read_gguf_tokenizer(*file);
  INFO((tokenizer ? "" : tokenizer.error().what));
  REQUIRE(tokenizer);
  CHECK(std::ranges::equal((*tokenizer)->start(), std::vector<int32_t>{1}));
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_characters.json"));
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    if (golden["sentencepiece"][i].is_null()) continue;
    INFO(golden["texts"][i]);
    CHECK(*(*tokenizer)->encode(golden["texts"][i].get<std::string>()) ==
          golden["sentencepiece"][i].get<std::vector<int32_t>>());
  }
}

TEST_CASE("text that is not UTF-8 is refused with its place") {
  const auto tokenizer = parse(tiny());
  REQUIRE(tokenizer);
  for (const std::string_view bad :
       {"abc\xff", "abc\xc3", "abc\xc0\x80", "abc\xed\xa0\x80 surrogate", "abc\xf4\x90\x80\x80",
        "abc\x80"}) {
    const auto ids = (*tokenizer)->encode(bad);
    REQUIRE_FALSE(ids);
    CHECK(ids.error().code == Code::invalid_argument);
    CHECK(ids.error().what == "text is not valid UTF-8 at byte 3");
  }
}

TEST_CASE("long words cost n log n") {
  Json json = tiny();
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const auto tokenizer = parse(json);
  REQUIRE(tokenizer);
  for (const std::string_view unit : {"a", "the", "\n", " ", "'", "1", "\xc3\xa9", "<|im_"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto start = std::chrono::steady_clock::now();
    REQUIRE((*tokenizer)->encode(text));
    // About half a second at worst; the quadratic merge loop takes an hour.
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    CHECK(seconds.count() < 30);
  }
}

TEST_CASE("tokenizer parts that are unknown are refused by name") {
  struct Case {
    Json change;
    Code code;
    std::string_view says;
  };
  const auto pre = [](Json part) { return Json{{"pre_tokenizer", std::move(part)}}; };
  const auto model = [](Json part) { return Json{{"model", std::move(part)}}; };
  const Json byte_level = {{"type", "ByteLevel"}};
  const Case cases[] = {
      {{{"normalizer", {{"type", "NFKC"}}}},
       Code::unsupported,
       "normalizer: type: got NFKC, supported: none, NFC"},
      {{{"normalizer", {{"type", "Strip"}, {"strip_left", true}}}},
       Code::unsupported,
       "strip_left: got true, supported: false"},
      {pre(nullptr), Code::unsupported, "pre_tokenizer: got none with ByteLevel"},
      {pre({{"type", "Metaspace"}, {"pretokenizers", nullptr}, {"replacement", "_"}}),
       Code::unsupported, "replacement: got _"},
      {pre({{"type", "Metaspace"},
            {"pretokenizers", nullptr},
            {"replacement", kMetaspace},
            {"prepend_scheme", "last"}}),
       Code::unsupported, "prepend_scheme: got last, supported: always, first, never"},
      {pre({{"type", "Whitespace"}, {"pretokenizers", nullptr}}), Code::unsupported,
       "pre_tokenizer: type: got Whitespace, supported: ByteLevel, Digits, Split, Sequence"},
      {{{"post_processor",
         {{"type", "TemplateProcessing"},
          {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}},
          {"special_tokens", {{"<s>", {{"ids", {100000}}}}}}}}},
       Code::schema,
       "start token: got id 100000"},
      {pre({{"type", "Sequence"}, {"pretokenizers", {byte_level, {{"type", "Digits"}}}}}),
       Code::unsupported, "got Digits after ByteLevel"},
      {pre({{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}}),
       Code::unsupported, "regular expression (: missing closing parenthesis"},
      {pre({{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "MergedWithNext"}}),
       Code::unsupported, "behavior: got MergedWithNext, supported: Isolated"},
      {model({{"type", "WordPiece"}}), Code::unsupported,
       "model: type: got WordPiece, supported: BPE, Unigram"},
      {model({{"type", "Unigram"}}), Code::unsupported,
       "model: type: got Unigram beside ByteLevel"},
      {model({{"byte_fallback", true}}), Code::unsupported, "byte_fallback: got true"},
      {model({{"dropout", 0.1}}), Code::unsupported, "dropout: got 0.1"},
      {model({{"end_of_word_suffix", "</w>"}}), Code::unsupported, "end_of_word_suffix: got </w>"},
      {model({{"vocab", {{"zz", 5}}}}), Code::schema, "expected another id than"},
      {model({{"vocab", {{"zz", 900000}}}}), Code::schema, "expected ids without great gaps"},
      {model({{"vocab", {{"zz", -1}}}}), Code::schema, "zz: got -1"},
      {model({{"merges", {"ab"}}}), Code::schema, "merge 0: expected two tokens"},
      {model({{"merges", {"q z"}}}), Code::schema, "merge 0: \"q\" and \"z\""},
      {model({{"merges", {"i n", "i n"}}}), Code::schema, "are merged twice"},
      {{{"added_tokens", {{{"id", 1}, {"content", "x"}, {"single_word", true}}}}},
       Code::unsupported,
       "single_word: got true"},
      {{{"added_tokens", {{{"id", 1}, {"content", ""}}}}}, Code::schema, "expected non-empty"},
      {{{"added_tokens", {{{"id", 99999999}, {"content", "x"}}}}},
       Code::schema,
       "id: got 99999999"},
  };
  for (const Case& test_case : cases) {
    INFO(test_case.change.dump());
    Json json = tiny();
    json.merge_patch(test_case.change);
    const auto tokenizer = parse(json);
    REQUIRE_FALSE(tokenizer);
    CHECK(tokenizer.error().code == test_case.code);
    CHECK_THAT(tokenizer.error().what, Catch::StartsWith("tokenizer.json"));
    CHECK_THAT(tokenizer.error().what, Catch::Contains(std::string(test_case.says)));
  }
}

TEST_CASE("expressions that Oniguruma and PCRE2 read differently are refused") {
  for (const std::string_view pattern :
       {R"(\w+)", R"(\bx)", R"(\h)", R"([\v])", R"([^\S])", R"([a[b]])", R"([a&&b])", R"([]a])",
        R"(\p{L}{1,3}+)", R"((?m:.))", R"((?<n>a))", R"((*UTF)a)", R"((a)\1)", "a\\"}) {
    INFO(pattern);
    const auto regex = Regex::compile(pattern);
    REQUIRE_FALSE(regex);
    CHECK(regex.error().code == Code::unsupported);
    CHECK_THAT(regex.error().what, Catch::Contains("is not supported"));
  }
  RegexScratch scratch;
  std::vector<std::string_view> pieces;
  const auto regex = Regex::compile(R"([\s,]+|(?i:É)|\[|^x$)");
  REQUIRE(regex);
  REQUIRE(regex->split("a,\xe2\x80\xa8 b\xc3\xa9[\nx", false, scratch, pieces));
  CHECK(pieces ==
        std::vector<std::string_view>{"a", ",\xe2\x80\xa8 ", "b", "\xc3\xa9", "[", "\n", "x"});
}

TEST_CASE("an expression that backtracks without end is an error, not a hang") {
  Json json = tiny();
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"use_regex", false}}}}};
  const auto tokenizer = parse(json);
  REQUIRE(tokenizer);
  const auto ids = (*tokenizer)->encode(std::string(60, 'a') + "b");
  REQUIRE_FALSE(ids);
  CHECK(ids.error().code == Code::unsupported);
  CHECK_THAT(ids.error().what, Catch::Contains("match limit exceeded"));
}

std::string sha256(std::span<const int32_t> ids) {
  unsigned char digest[32];
  unsigned size = 0;
  EVP_Digest(ids.data(), ids.size_bytes(), digest, &size, EVP_sha256(), nullptr);
  std::string text;
  for (const unsigned char byte : digest) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += {kDigits[byte >> 4U], kDigits[byte & 15U]};
  }
  return text;
}

TEST_CASE("SmolLM2's token ids are those of Hugging Face's tokenizers", "[slow]") {
  if (smollm2_path().empty()) MI_SKIP("no SmolLM2 GGUF (MI_MODEL)");
  const auto model = Model::open(smollm2_path());
  REQUIRE(model);
  const Tokenizer* tokenizer = (*model)->tokenizer();
  REQUIRE(tokenizer != nullptr);
  const Json golden = Json::parse(read_file(kTestData / "tokenizer_smollm2.json"));
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    INFO(golden["texts"][i]);
    CHECK(*tokenizer->encode(golden["texts"][i].get<std::string>()) ==
          golden["ids"][i].get<std::vector<int32_t>>());
  }
  for (const auto& [name, want] : golden["files"].items()) {
    const std::filesystem::path texts = std::filesystem::path(MI_SOURCE_DIR) / "calib_data/texts";
    const auto ids = tokenizer->encode(read_file(texts / name));
    REQUIRE(ids);
    CHECK(ids->size() == want["tokens"].get<size_t>());
    CHECK(sha256(*ids) == want["sha256"].get<std::string>());
  }
}

}  // namespace
}  // namespace mi::search
