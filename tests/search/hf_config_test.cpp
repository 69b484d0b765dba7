// config.json: defaults, both spellings of the rotary base, refusals.
#include "libsearch/model/hf_config.h"

#include <catch2/catch.hpp>

#include <cmath>

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
  CHECK(spec->rope.theta == 10000);
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
  CHECK(spec->rope.theta == 10000);
  CHECK(spec->rms_eps == 1e-6);
  CHECK_FALSE(spec->tied_embeddings);
  CHECK(spec->context == 2048);
}

TEST_CASE("the rotary base is found in old and new spellings") {
  Json config = tiny();
  config["rope_theta"] = 500000.0;
  config["rope_scaling"] = {{"type", "default"}};
  CHECK(parse(config)->rope.theta == 500000);
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config["rope_parameters"] = {{"rope_theta", 100000}, {"rope_type", "default"}};
  CHECK(parse(config)->rope.theta == 100000);
}

TEST_CASE("rotary scalings have the defaults of their papers") {
  Json config = tiny();
  config["max_position_embeddings"] = 131072;
  config["original_max_position_embeddings"] = 4096;  // as Phi-3 has it
  config["rope_scaling"] = {{"type", "su"},
                            {"short_factor", std::vector<double>(8, 1.0)},
                            {"long_factor", std::vector<double>(8, 2.0)}};
  const auto phi = parse(config);
  REQUIRE(phi);
  CHECK(phi->rope.scaling == RopeScaling::factors);
  CHECK(phi->rope.original_context == 4096);
  CHECK(phi->rope.attention_factor == Approx(std::sqrt(1 + 5.0 / 12)));  // of factor 2^5
  CHECK(rope_frequencies(phi->rope, 4096, phi->context)[0] == 1);
  CHECK(rope_frequencies(phi->rope, 4097, phi->context)[0] == 0.5);
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4}};
  const auto yarn = parse(config);
  REQUIRE(yarn);
  CHECK(yarn->rope.attention_factor == Approx(0.1 * std::log(4.0) + 1));
  // The fastest pair is kept, the slowest stretched.
  const auto stretched = rope_frequencies(yarn->rope, 1, yarn->context);
  Rope unscaled;
  unscaled.theta = 10000;
  unscaled.dim = 16;
  const auto plain = rope_frequencies(unscaled, 1, yarn->context);
  CHECK(stretched.front() == plain.front());
  CHECK(stretched.back() == Approx(plain.back() / 4));
}

TEST_CASE("a sliding window counts where the family says so") {
  Json config = tiny();
  config["sliding_window"] = 4096;
  CHECK(parse(config)->most_tokens == 4096);
  CHECK(parse(config)->windows.empty());
  config["architectures"] = {"Qwen2ForCausalLM"};
  CHECK(parse(config)->most_tokens == 0);
  CHECK(parse(config)->qkv_bias);
  config["use_sliding_window"] = true;  // from layer 28 on, if nothing is said
  CHECK(parse(config)->most_tokens == 0);
  config["max_window_layers"] = 0;
  CHECK(parse(config)->most_tokens == 4096);
  config["max_window_layers"] = 1;
  CHECK(parse(config)->layers == 1);
  CHECK(parse(config)->windows == std::vector<int64_t>{0, 4096});
  config["layer_types"] = {"sliding_attention", "full_attention"};
  CHECK(parse(config)->windows == std::vector<int64_t>{4096, 0});
  CHECK(parse(config)->attention_layers == std::vector<int>{1});
  config["layer_types"] = {"sliding_attention", "linear_attention"};
  CHECK(parse(config).error().code == Code::unsupported);
  config["layer_types"] = {"full_attention"};
  CHECK_THAT(parse(config).error().what, Catch::Contains("layer_types: got [\"full_attention\"], "
                                                         "expected a list of 2 layers"));
}

// Gemma 3 4B's file, whose decoder is left to the class's defaults for the most part.
TEST_CASE("a multimodal config.json gives its decoder's description") {
  Json config = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                 {"model_type", "gemma3"},
                 {"text_config",
                  {{"hidden_size", 2560},
                   {"intermediate_size", 10240},
                   {"num_hidden_layers", 34},
                   {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                   {"sliding_window", 1024}}},
                 {"vision_config", {{"hidden_size", 1152}}}};
  const auto spec = parse(config);
  INFO((spec ? "" : spec.error().what));
  REQUIRE(spec);
  CHECK(spec->heads == 8);
  CHECK(spec->kv_heads == 4);
  CHECK(spec->head_dim == 256);
  CHECK(spec->vocab == 262208);
  CHECK(spec->context == 131072);
  CHECK(spec->rope.theta == 1e6);
  CHECK(spec->local_rope.theta == 1e4);
  CHECK(spec->attention_layers == std::vector<int>{5, 11, 17, 23, 29});
  CHECK(spec->tied_embeddings);
  CHECK(spec->beside_others);
  config["text_config"]["num_attention_heads"] = 7;
  CHECK_THAT(parse(config).error().what, Catch::Contains("config.json"));
  config["text_config"]["num_attention_heads"] = "8";
  CHECK_THAT(parse(config).error().what,
             Catch::Contains("config.json: text_config: num_attention_heads: got \"8\""));
  config["quantization_config"] = {{"bits", 4}};
  CHECK_THAT(parse(config).error().what, Catch::Contains("config.json: quantization_config"));
  config.erase("text_config");
  config.erase("quantization_config");
  CHECK_THAT(parse(config).error().what, Catch::Contains("text_config: missing"));
}

TEST_CASE("Gemma's and Qwen3-MoE's options are read or refused") {
  Json gemma = tiny();
  gemma["architectures"] = {"Gemma3ForCausalLM"};
  gemma["sliding_window"] = 512;
  gemma["rope_local_base_freq"] = 7000;
  const auto spec = parse(gemma);
  REQUIRE(spec);
  CHECK(spec->most_tokens == 512);  // two layers, and only every sixth sees all keys
  CHECK(spec->local_rope.theta == 7000);
  CHECK(spec->gelu);
  CHECK(spec->scale == 0);
  CHECK(spec->tied_embeddings);
  gemma.erase("tie_word_embeddings");
  CHECK(parse(gemma)->tied_embeddings);
  gemma["sliding_window_pattern"] = 2;
  CHECK(parse(gemma)->attention_layers == std::vector<int>{1});
  gemma["query_pre_attn_scalar"] = 64;
  CHECK(parse(gemma)->scale == 0.125);
  const auto refused = [](Json config, const char* key, const Json& value) {
    config[key] = value;
    const auto parsed = parse(config);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Code::unsupported);
    CHECK_THAT(parsed.error().what, Catch::Contains(key));
  };
  refused(gemma, "attn_logit_softcapping", 50.0);
  refused(gemma, "hidden_activation", "silu");
  refused(gemma, "use_bidirectional_attention", true);
  refused(tiny(), "final_logit_softcapping", 30.0);

  Json moe = tiny();
  moe["architectures"] = {"Qwen3MoeForCausalLM"};
  moe["num_experts"] = 8;
  moe["num_experts_per_tok"] = 9;
  moe["moe_intermediate_size"] = 24;
  CHECK_THAT(parse(moe).error().what, Catch::Contains("num_experts_per_tok: got 9"));
  moe["num_experts_per_tok"] = 3;
  CHECK(parse(moe)->experts_used == 3);
  CHECK(parse(moe)->ffn == 24);
  CHECK_FALSE(parse(moe)->norm_experts);
  refused(moe, "mlp_only_layers", {0});
  refused(moe, "decoder_sparse_step", 2);
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
      {{{"mlp_bias", true}}, Code::unsupported, "mlp_bias: got true"},
      {{{"architectures", {"MistralForCausalLM"}}, {"attention_bias", true}},
       Code::unsupported,
       "attention_bias: got true, expected false (mistral has no biases)"},
      {{{"attention_bias", 1}}, Code::schema, "attention_bias: got 1"},
      {{{"rope_scaling", {{"type", "ntk"}, {"factor", 2}}}},
       Code::unsupported,
       "rope_scaling: rope_type: got \"ntk\", supported: default, linear, dynamic, llama3, yarn"},
      {{{"rope_scaling", {{"factor", 2}}}}, Code::unsupported, "rope_scaling: factor: found"},
      {{{"rope_scaling", {{"type", "linear"}}}}, Code::schema, "rope_scaling: factor: missing"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}},
       Code::schema,
       "factor: got 0, expected a number above 0"},
      {{{"rope_scaling", {{"type", "dynamic"}, {"factor", "2"}}}},
       Code::schema,
       "factor: got \"2\""},
      {{{"rope_parameters", {{"rope_type", "llama3"}}}}, Code::schema, "factor: missing"},
      {{{"rope_parameters",
         {{"rope_type", "llama3"},
          {"factor", 8},
          {"low_freq_factor", 4},
          {"high_freq_factor", 1}}}},
       Code::schema,
       "high_freq_factor: got 1, expected more than low_freq_factor"},
      {{{"rope_parameters",
         {{"rope_type", "llama3"},
          {"factor", 8},
          {"low_freq_factor", 1},
          {"high_freq_factor", 4}}}},
       Code::schema,
       "original_max_position_embeddings: missing"},
      {{{"rope_scaling", {{"type", "yarn"}, {"factor", 4}, {"truncate", 1}}}},
       Code::schema,
       "truncate: got 1, expected true or false"},
      {{{"rope_scaling", {{"type", "longrope"}, {"short_factor", {1}}, {"long_factor", {1}}}}},
       Code::schema,
       "short_factor: got [1], expected 8 numbers"},
      {{{"rope_scaling", {{"type", "su"}, {"short_factor", {1, 1, 1, 1, 1, 1, 1, -1}}}}},
       Code::schema,
       "expected numbers above 0"},
      {{{"partial_rotary_factor", 0}}, Code::schema, "expected a number above 0, up to 1"},
      {{{"partial_rotary_factor", 0.2}},
       Code::unsupported,
       "got 0.2 of head_dim 16, supported: an even number"},
      {{{"quantization_config", {{"bits", 4}}}}, Code::unsupported, "quantization_config"},
      {{{"sliding_window", 0}}, Code::schema, "sliding_window: got 0, expected an integer from 1"},
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
