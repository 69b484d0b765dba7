// Opening models: what they say of themselves, and everything that can be wrong with them.
#include "libsearch/model/model.h"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "tests/search/model_support.h"

namespace mi::search {
namespace {

namespace fs = std::filesystem;

Status open_error(const fs::path& path) {
  const auto model = Model::open(path);
  REQUIRE_FALSE(model);
  return model.error();
}

// tiny-llama in a folder of its own, to be spoilt.
struct Copy {
  TemporaryFolder folder;
  Copy() { fs::copy(kTestData / "tiny-llama", folder.path() / "tiny"); }
  [[nodiscard]] fs::path path() const { return folder.path() / "tiny"; }
  void patch(const std::string& name, const nlohmann::json& change) const {
    auto json = nlohmann::json::parse(read_file(path() / name));
    json.merge_patch(change);
    write_file(path() / name, json.dump());
  }
  // Rewrites the safetensors header in place; the text must not grow.
  void replace_in_header(const std::string& from, const std::string& to) const {
    std::string bytes = read_file(path() / "model.safetensors");
    const size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    bytes.replace(at, from.size(), to + std::string(from.size() - to.size(), ' '));
    write_file(path() / "model.safetensors", bytes);
  }
};

TEST_CASE("a model says what it is") {
  const auto gguf = Model::open(kTestData / "tiny-llama.gguf");
  const auto hf = Model::open(kTestData / "tiny-llama");
  const auto shards = Model::open(kTestData / "tiny-llama-shards" / "");
  REQUIRE(gguf);
  REQUIRE(hf);
  REQUIRE(shards);
  CHECK((*gguf)->spec().name == "tiny llama");
  CHECK((*hf)->spec().name == "tiny-llama");
  CHECK((*shards)->spec().name == "tiny-llama-shards");
  for (const auto* model : {&*gguf, &*hf, &*shards}) {
    const ModelSpec& spec = (*model)->spec();
    CHECK(spec.architecture == "llama");
    CHECK(spec.layers == 2);
    CHECK(spec.heads == 4);
    CHECK(spec.kv_heads == 2);
    CHECK(spec.head_dim == 16);
    CHECK(spec.vocab == 320);
    CHECK(spec.context == 256);
    CHECK(spec.rope.theta == 10000);
    CHECK(spec.rms_eps == Approx(1e-5));
    CHECK(spec.tied_embeddings == (model != &*shards));
    CHECK(spec.fingerprint.size() == 7 + 64);
  }
  CHECK((*gguf)->tokenizer() != nullptr);
  CHECK((*hf)->tokenizer() != nullptr);
  CHECK((*shards)->tokenizer() == nullptr);
  CHECK((*hf)->tokenizer_status());
  CHECK_THAT((*shards)->tokenizer_status().what,
             Catch::Contains("there is no tokenizer.json and no tokenizer.model"));
}

TEST_CASE("the fingerprint follows the content, not the path") {
  const auto original = Model::open(kTestData / "tiny-llama");
  REQUIRE(original);
  const Copy copy;
  const auto moved = Model::open(copy.path());
  REQUIRE(moved);
  CHECK((*moved)->spec().fingerprint == (*original)->spec().fingerprint);
  copy.patch("config.json", {{"rope_theta", 20000.0}});
  CHECK((*Model::open(copy.path()))->spec().fingerprint != (*original)->spec().fingerprint);
  copy.patch("config.json", {{"rope_theta", 10000.0}});
  std::string bytes = read_file(copy.path() / "model.safetensors");
  bytes[bytes.size() - 1000] = static_cast<char>(bytes[bytes.size() - 1000] ^ 1);
  write_file(copy.path() / "model.safetensors", bytes);
  CHECK((*Model::open(copy.path()))->spec().fingerprint != (*original)->spec().fingerprint);
}

TEST_CASE("a path that is no model is an error of its own") {
  const TemporaryFolder folder;
  CHECK(open_error(folder.path() / "absent").code == Code::io);
  CHECK_THAT(open_error(folder.path() / "absent.gguf").what,
             Catch::EndsWith("absent.gguf: No such file or directory"));
  CHECK(open_error(folder.path()).code == Code::io);
  CHECK_THAT(open_error(folder.path()).what,
             Catch::Contains("config.json: No such file or directory (expected in a Hugging"));
  CHECK_THAT(open_error("/dev/null").what, Catch::Contains("not a regular file"));
  write_file(folder.path() / "empty.gguf", "");
  CHECK(open_error(folder.path() / "empty.gguf").code == Code::schema);
  write_file(folder.path() / "text.gguf", "once upon a time");
  CHECK_THAT(open_error(folder.path() / "text.gguf").what, Catch::Contains("not a GGUF file"));
}

TEST_CASE("an unsupported architecture is named with those supported") {
  const Copy copy;
  copy.patch("config.json", {{"architectures", {"GemmaForCausalLM"}}});
  const Status hf = open_error(copy.path());
  CHECK(hf.code == Code::unsupported);
  CHECK_THAT(hf.what,
             Catch::Contains("got [\"GemmaForCausalLM\"], expected one of LlamaForCausalLM"));
  const Status gguf = open_error(kTestData / "weight_types.gguf");
  CHECK(gguf.code == Code::unsupported);
  CHECK_THAT(gguf.what, Catch::EndsWith("general.architecture: got none, supported: llama, qwen2, "
                                        "qwen3, qwen3moe, phi3, glm4, gemma2, gemma3"));
}

TEST_CASE("tensors must be there with the shape and type that the config asks for") {
  const auto error_with = [](const nlohmann::json& change) {
    const Copy copy;
    copy.patch("config.json", change);
    return open_error(copy.path());
  };
  const Status narrow = error_with({{"intermediate_size", 65}});
  CHECK(narrow.code == Code::schema);
  CHECK_THAT(narrow.what, Catch::Contains("tensor model.layers.0.mlp.gate_proj.weight: got shape "
                                          "[64, 64], expected [65, 64]"));
  CHECK_THAT(error_with({{"num_hidden_layers", 3}}).what,
             Catch::Contains("tensor model.layers.2.input_layernorm.weight is missing"));
  const Status fewer = error_with({{"num_hidden_layers", 1}});
  CHECK(fewer.code == Code::unsupported);
  CHECK_THAT(fewer.what, Catch::Contains("has no place in a llama decoder of 1 layers"));
  CHECK_THAT(error_with({{"tie_word_embeddings", false}}).what,
             Catch::Contains("tensor lm_head.weight is missing"));
  CHECK_THAT(error_with({{"vocab_size", 319}}).what, Catch::Contains("319"));

  const Copy type;
  type.replace_in_header("\"F16\"", "\"I16\"");
  CHECK(open_error(type.path()).code == Code::unsupported);
  const Copy shape;
  shape.replace_in_header("[320,64]", "[64,320]");
  CHECK_THAT(open_error(shape.path()).what,
             Catch::Contains("model.embed_tokens.weight: got shape [64, 320], expected [320, 64]"));
  const Copy bias;
  bias.replace_in_header("model.norm.weight", "model.norm.bias");
  CHECK(open_error(bias.path()).code != Code::ok);
}

TEST_CASE("a GGUF file that asks for what the decoder does not do is refused") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model.gguf";
  const std::string whole = read_file(kTestData / "tiny-llama.gguf");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    REQUIRE(from.size() == to.size());
    std::string bytes = whole;
    const size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    bytes.replace(at, from.size(), to);
    write_file(path, bytes);
    return open_error(path);
  };
  // Keys and values of equal length take the place of others.
  CHECK_THAT(replaced("llama.block_count", "llama.block_caunt").what,
             Catch::Contains("metadata llama.block_count: missing, expected an integer"));
  const std::string name = std::string("tiny llama");
  std::string renamed = whole;
  renamed.replace(renamed.find(name), name.size(), "tiny\nllama");
  write_file(path, renamed);
  CHECK((*Model::open(path))->spec().name == "model");
  const std::string dims = "llama.rope.dimension_count";
  const std::string value("\x04\0\0\0\x10\0\0\0", 8);
  const Status rotary = replaced(dims + value, dims + std::string("\x04\0\0\0\x07\0\0\0", 8));
  CHECK(rotary.code == Code::unsupported);
  CHECK_THAT(rotary.what,
             Catch::Contains("llama.rope.dimension_count: got 7, supported: even, 2 to"));
  const std::string heads = "llama.attention.head_count";
  const Status zero =
      replaced(heads + std::string("\x04\0\0\0\x04", 5), heads + std::string("\x04\0\0\0\0", 5));
  CHECK_THAT(zero.what, Catch::Contains("llama.attention.head_count: got 0, expected 1"));
  CHECK_THAT(replaced("blk.1.ffn_up.weight", "blk.1.ffn_up.wreath").what,
             Catch::Contains("tensor blk.1.ffn_up.weight is missing"));
}

TEST_CASE("a tokenizer of another kind leaves a model that takes ids, and says why") {
  const Copy copy;
  copy.patch("tokenizer.json",
             {{"pre_tokenizer", {{"type", "Whitespace"}, {"pretokenizers", nullptr}}}});
  const auto model = Model::open(copy.path());
  REQUIRE(model);
  CHECK((*model)->tokenizer() == nullptr);
  CHECK((*model)->tokenizer_status().code == Code::unsupported);
  CHECK_THAT((*model)->tokenizer_status().what,
             Catch::Contains("got Whitespace, supported: ByteLevel"));
}

TEST_CASE("a broken tokenizer, or another model's, is an error") {
  const Copy broken;
  write_file(broken.path() / "tokenizer.json", "{");
  CHECK(open_error(broken.path()).code == Code::schema);
  const Copy other;
  other.patch("tokenizer.json", {{"added_tokens", {{{"id", 320}, {"content", "<more>"}}}}});
  CHECK_THAT(open_error(other.path()).what,
             Catch::Contains("the tokenizer has 321 ids, the model 320"));
}

}  // namespace
}  // namespace mi::search
