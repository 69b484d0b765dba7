#include "libsearch/report/reference_json.h"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "tests/support.h"

namespace mi::search {
namespace {

using runtime::HeadConfig;
using runtime::HeadEntry;
using runtime::Pattern;

HeadConfig::Model model_of(int layers, int heads) {
  HeadConfig::Model model;
  model.name = "m";
  model.architecture = "llama";
  model.layers = layers;
  model.heads = heads;
  model.kv_heads = 1;
  model.head_dim = 64;
  model.rope_theta = 10000;
  model.fingerprint = "sha256:0";
  return model;
}

constexpr const char* kFile = R"([
  {"0": ["vertical_and_slash", 1000, 6096, 0.75], "1": ["stream_llm", 100, 800, 0.5]},
  {"1": ["block_sparse", 7, 9, 1.0000001], "0": ["vertical_and_slash", 30, 0, 0]}])";

TEST_CASE("the published head file says what its program runs") {
  const auto config = from_reference(kFile, "f.json", model_of(2, 2));
  INFO((config ? "" : config.error().what));
  REQUIRE(config);
  const auto& layers = config->layers;
  CHECK(layers[0][0].pattern == Pattern::vertical_slash);
  CHECK(layers[0][0].vertical == runtime::PerLength{{0, 1000}});
  CHECK(layers[0][0].slash == runtime::PerLength{{0, 6096}});
  CHECK(layers[0][0].recall == 0.75);
  CHECK(layers[0][1].pattern == Pattern::a_shape);
  CHECK(layers[0][1].sink == 100);
  CHECK(layers[0][1].local == runtime::PerLength{{0, 800}});
  CHECK(layers[1][1].pattern == Pattern::block_sparse);
  CHECK(layers[1][1].blocks == runtime::PerLength{{0, 100}});  // its program ignores the counts
  CHECK(layers[1][1].recall == 1);
  CHECK(config->quality.recall_mean == Approx(0.5625));
  CHECK(config->quality.recall_min == 0);
  CHECK(config->warnings.size() == 1);
  // The runtime takes it.
  const auto parsed = runtime::parse_config(runtime::dump_config(*config), "c.yaml");
  INFO((parsed ? "" : parsed.error().what));
  REQUIRE(parsed);
  CHECK(parsed->layers == layers);
}

TEST_CASE("a head that the published file leaves out runs that program's default") {
  const auto config =
      from_reference(R"([{"2": ["stream_llm", 4, 64, 0.9]}])", "f.json", model_of(1, 3));
  REQUIRE(config);
  for (const size_t head : {0, 1}) {
    CHECK(config->layers[0][head].vertical == runtime::PerLength{{0, 1000}});
    CHECK(config->layers[0][head].slash == runtime::PerLength{{0, 6096}});
  }
  REQUIRE(config->warnings.size() == 2);
  CHECK(config->warnings[1].find("2 heads are not in the file") != std::string::npos);
}

TEST_CASE("what the published format can say survives the way there and back") {
  const auto config = from_reference(kFile, "f.json", model_of(2, 2));
  REQUIRE(config);
  const ReferenceText text = to_reference(*config, 4096);
  CHECK(text.lost.empty());
  const auto again = from_reference(text.json, "f.json", model_of(2, 2));
  REQUIRE(again);
  CHECK(again->layers == config->layers);
}

TEST_CASE("what the published format cannot say is told") {
  const auto config = runtime::load_config(MI_SOURCE_DIR "/configs/smollm2-135m-instruct-15.yaml");
  REQUIRE(config);
  const ReferenceText text = to_reference(*config, 8192);
  const auto json = nlohmann::json::parse(text.json);
  REQUIRE(json.size() == config->layers.size());
  size_t carried = 0;
  for (size_t l = 0; l < json.size(); ++l)
    for (const auto& [head, entry] : json[l].items()) {
      const HeadEntry& own = config->layers[l][std::stoul(head)];
      CHECK(entry[0] == "stream_llm");  // our other patterns have thresholds
      CHECK(entry[1] == own.sink);
      CHECK(entry[2] == own.local.at(8192));
      ++carried;
    }
  CHECK(carried > 0);
  const auto says = [&](const char* words) {
    return std::any_of(text.lost.begin(), text.lost.end(), [&](const std::string& line) {
      return line.find(words) != std::string::npos;
    });
  };
  CHECK(says("heads run stripe in a form"));
  CHECK(says("heads lose their cap"));
  CHECK(says("the last 64 rows"));
}

TEST_CASE("a wrong published file is refused with its place") {
  struct Wrong {
    const char* json;
    const char* says;
  };
  const Wrong all[] = {
      {"{}", "f.json: found {}, expected a list"},
      {"[{}]", "found 1 layers, expected 2"},
      {"[{}, 3]", "layer 1: found 3, expected an object"},
      {R"([{}, {"2": ["stream_llm", 1, 2, 0]}])", "layer 1: found \"2\", expected heads 0 to 1"},
      {R"([{}, {"01": ["stream_llm", 1, 2, 0]}])", "found \"01\", expected heads"},
      {R"([{}, {"-1": ["stream_llm", 1, 2, 0]}])", "found \"-1\", expected heads"},
      {R"([{}, {"": ["stream_llm", 1, 2, 0]}])", "found \"\", expected heads"},
      {R"([{"1": ["stripe", 1, 2, 0]}, {}])",
       "layer 0, head 1: found \"stripe\", expected vertical"},
      {R"([{"1": [3, 1, 2, 0]}, {}])", "found 3, expected vertical"},
      {R"([{"1": ["stream_llm", 1, 2]}, {}])", "expected [type, a, b, score]"},
      {R"([{"1": ["stream_llm", -1, 2, 0]}, {}])", "found -1, expected a count"},
      {R"([{"1": ["stream_llm", 1, 0, 0]}, {}])", "found 0, expected a local window"},
      {R"([{"1": ["stream_llm", 1.5, 2, 0]}, {}])", "found 1.5, expected a count"},
      {R"([{"1": ["stream_llm", 1, 99999999999999999999, 0]}, {}])", "expected a count"},
      {R"([{"1": ["stream_llm", 1, 2, 1.5]}, {}])", "found 1.5, expected a score"},
      {R"([{"1": ["stream_llm", 1, 2, null]}, {}])", "found null, expected a score"},
      {R"([{"1": ["stream_llm", 1, 2, 0], "1": ["stream_llm", 1, 2, 0]}, {}])", "twice"},
      {"[{}, {}", "not JSON"}};
  for (const Wrong& wrong : all) {
    INFO(wrong.json);
    const auto config = from_reference(wrong.json, "f.json", model_of(2, 2));
    REQUIRE(!config);
    INFO(config.error().what);
    CHECK(config.error().what.find("f.json") == 0);
    CHECK(config.error().what.find(wrong.says) != std::string::npos);
  }
}

}  // namespace
}  // namespace mi::search
