// config.json: defaults, both spellings of the rotary base, refusals.
#include "libsearch/model/hf_config.h"

#include <nlohmann/json.hpp>

#include "tests/search/model_support.h"

namespace mi::search {
namespace {

using Json = nlohmann::json;

Json tiny() {
  return Json::parse(read_file(kTestData / "tiny-llama" / "config.json"));
}

Result<ModelSpec> parse(const Json& config) {
  return parse_hf_config(config.dump(), "config.json");
}

TEST_CASE("a Llama config.json is read") {
  const auto spec = parse(tiny());
  REQUIRE(spec);
  CHECK(spec->architecture == "llama");
  CHECK(spec->layers == 2);
  CHECK(spec->heads == 4);
  CHECK(spec->kv_heads == 2);
  CHECK(spec->head_dim == 16);
  CHECK(spec->hidden == 64);
  CHECK(spec->ffn == 64);
  CHECK(spec->vocab == 320);
  CHECK(spec->context == 256);
  CHECK(spec->rope_theta == 10000);
  CHECK(spec->rms_eps == 1e-5);
  CHECK(spec->tied_embeddings);
}

TEST_CASE("what config.json leaves out has transformers' defaults") {
  Json config = tiny();
  for (const char* key : {"num_key_value_heads", "head_dim", "rope_theta", "rope_scaling",
                          "rms_norm_eps", "hidden_act", "tie_word_embeddings",
                          "max_position_embeddings", "attention_bias", "mlp_bias"}) {
    config.erase(key);
  }
  const auto spec = parse(config);
  REQUIRE(spec);
  CHECK(spec->kv_heads == 4);
  CHECK(spec->head_dim == 16);
  CHECK(spec->rope_theta == 10000);
  CHECK(spec->rms_eps == 1e-6);
  CHECK_FALSE(spec->tied_embeddings);
  CHECK(spec->context == 2048);
}

TEST_CASE("the rotary base is found in old and new spellings") {
  Json config = tiny();
  config["rope_theta"] = 500000.0;
  config["rope_scaling"] = {{"type", "default"}};
  CHECK(parse(config)->rope_theta == 500000);
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config["rope_parameters"] = {{"rope_theta", 100000}, {"rope_type", "default"}};
  CHECK(parse(config)->rope_theta == 100000);
}

TEST_CASE("NUL does not end config.json") {
  std::string text = read_file(kTestData / "tiny-llama" / "config.json");
  text += '\0';
  text += "garbage";
  CHECK(parse_hf_config(text, "c.json").error().what.find("c.json: not JSON at byte") == 0);
}

TEST_CASE("config.json that cannot be run is refused by name") {
  struct Case {
    Json change;
    Code code;
    std::string_view says;
  };
  const Case cases[] = {
      {{{"architectures", {"MambaForCausalLM"}}},
       Code::unsupported,
       "architectures: got [\"MambaForCausalLM\"], expected one of LlamaForCausalLM"},
      {{{"architectures", nullptr}}, Code::schema, "architectures: missing"},
      {{{"architectures", Json::array()}}, Code::schema, "expected one name"},
      {{{"hidden_act", "gelu"}}, Code::unsupported, "hidden_act: got \"gelu\", expected \"silu\""},
      {{{"attention_bias", true}}, Code::unsupported, "attention_bias: got true"},
      {{{"mlp_bias", true}}, Code::unsupported, "mlp_bias: got true"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}},
       Code::unsupported,
       "rope_scaling: rope_type: got \"linear\", supported: \"default\""},
      {{{"rope_scaling", {{"factor", 2}}}}, Code::unsupported, "rope_scaling: factor: got 2"},
      {{{"rope_parameters", {{"rope_type", "llama3"}}}}, Code::unsupported, "got \"llama3\""},
      {{{"quantization_config", {{"bits", 4}}}}, Code::unsupported, "quantization_config"},
      {{{"sliding_window", 4096}}, Code::unsupported, "sliding_window: got 4096"},
      {{{"partial_rotary_factor", 0.5}}, Code::unsupported, "partial_rotary_factor: got 0.5"},
      {{{"hidden_size", nullptr}}, Code::schema, "hidden_size: missing, expected an integer"},
      {{{"hidden_size", "64"}}, Code::schema, "hidden_size: got \"64\", expected an integer"},
      {{{"hidden_size", 0}}, Code::schema, "hidden_size: got 0, expected an integer from 1"},
      {{{"hidden_size", 1e30}}, Code::schema, "hidden_size: got 1e+30"},
      {{{"num_hidden_layers", 18446744073709551615U}}, Code::schema, "num_hidden_layers: got 184"},
      {{{"head_dim", nullptr}, {"hidden_size", 66}}, Code::schema, "a multiple of 4 heads"},
      {{{"head_dim", 17}}, Code::unsupported, "head_dim: got 17, supported: even, up to 256"},
      {{{"head_dim", 512}}, Code::unsupported, "head_dim: got 512"},
      {{{"num_key_value_heads", 3}}, Code::schema, "heads: got 4, expected a multiple of 3"},
      {{{"rope_theta", -1}}, Code::schema, "rope_theta: got -1"},
      {{{"rms_norm_eps", 2}}, Code::schema, "rms_norm_eps: got 2"},
      {{{"tie_word_embeddings", 1}}, Code::schema, "expected true or false"},
  };
  for (const Case& test_case : cases) {
    INFO(test_case.change.dump());
    Json config = tiny();
    config.merge_patch(test_case.change);
    const auto spec = parse(config);
    REQUIRE_FALSE(spec);
    CHECK(spec.error().code == test_case.code);
    CHECK_THAT(spec.error().what, Catch::StartsWith("config.json: "));
    CHECK_THAT(spec.error().what, Catch::Contains(std::string(test_case.says)));
  }
  CHECK_THAT(parse_hf_config("{", "config.json").error().what,
             Catch::StartsWith("config.json: not JSON at byte 2"));
  CHECK_THAT(parse_hf_config("", "config.json").error().what,
             Catch::StartsWith("config.json: not JSON at byte 1"));
}

}  // namespace
}  // namespace mi::search
