#include "libruntime/config.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "libruntime/yaml_reader.h"
#include "tests/support.h"

namespace mi::runtime {
namespace {

std::string frozen_path() {
  return std::string(MI_TEST_DATA) + "/config_v1.yaml";
}

std::string frozen_text() {
  std::ifstream stream(frozen_path(), std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The frozen file with one passage replaced.
std::string with(const std::string& from, const std::string& to) {
  std::string text = frozen_text();
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string error_of(const std::string& yaml) {
  const auto config = parse_config(yaml, "c.yaml");
  if (config) return "accepted";
  CHECK(config.error().code == Code::schema);
  CHECK(config.error().what.find('\n') == std::string::npos);
  return config.error().what;
}

}  // namespace

TEST_CASE("the frozen version 1 file loads, field by field") {
  const auto config = load_config(frozen_path());
  INFO((config ? "" : config.error().what));
  REQUIRE(config);
  CHECK(config->model.name == "SmolLM2-135M-Instruct");
  CHECK(config->model.layers == 2);
  CHECK(config->model.rope_theta == 100000);
  CHECK(config->model.fingerprint == "sha256:8f3a09c1");
  CHECK(config->producer.options == "--budget 15%");
  CHECK(config->calibration.lengths == std::vector<int64_t>{2048, 8192});
  CHECK(config->calibration.samples.at(1).source == "needle seed 7");
  CHECK(config->calibration.held_out.size() == 1);
  CHECK(config->limit.achieved.at(8192) == 0.1481);
  CHECK(config->limit.gap == 1.2e-5);
  REQUIRE(config->quality.held_out);
  CHECK(config->quality.held_out->logit_kl == 0.018);
  CHECK(config->kernel.last == 64);
  CHECK(config->kernel.dense_below == 0);  // the file is from before the key
  REQUIRE(config->layers.size() == 2);
  const HeadEntry& first = config->layers[0][0];
  CHECK(first.pattern == Pattern::stripe_vertical_slash);
  CHECK(first.sink == 16);
  CHECK(first.local == PerLength{{0, 128}});
  CHECK(first.density == PerLength{{2048, 0.012}, {8192, 0.004}});
  CHECK(config->layers[0][1].slash == PerLength{{0, 4096}});
  CHECK(config->layers[0][5].estimate == BlockEstimate::antidiagonal);
  CHECK(config->layers[0][5].stride == 8);
  CHECK(config->layers[1][3].recall == 0);
}

TEST_CASE("load then save is byte-identical") {
  const auto config = load_config(frozen_path());
  REQUIRE(config);
  CHECK(dump_config(*config) == frozen_text());
}

TEST_CASE("layers and heads go by the index they name, not by their place") {
  std::string text =
      with("head: 0, pattern: stripe, sink: 16, local: 0, density: 0.25, recall: 0.75",
           "head: 5, pattern: dense, recall: 1");
  text.replace(text.rfind("head: 5, pattern: dense, recall: 1"), 34,
               "head: 0, pattern: stripe, sink: 16, local: 0, density: 0.25, recall: 0.75");
  const auto config = parse_config(text, "c.yaml");
  REQUIRE(config);
  CHECK(dump_config(*config) == frozen_text());
}

TEST_CASE("what is wrong is said with its place, what was found and what was expected") {
  struct Case {
    std::string from, to, error;
  };
  const auto item = GENERATE(values<Case>({
      {"limit: {share", "limit: {shape: 1, share",
       "c.yaml:12:9: found unknown key 'shape', expected one of share, achieved"},
      {"layers: 2,", "layers: two,",
       "c.yaml:3:67: found 'two', expected an integer from 1 to 10000"},
      {"layers: 2,", "layers: \"2\",", "found '2' in quotes, expected an integer"},
      {"rope_theta: 100000", "rope_theta: .nan", "found '.nan', expected a number of at least 0"},
      {"rope_theta: 100000", "rope_theta: nan", "found 'nan', expected a number of at least 0"},
      {"rope_theta: 100000", "rope_theta: 1e999", "found '1e999', expected"},
      {"kv_heads: 2", "kv_heads: 4", "found 4 kv_heads, expected a divisor of 6 heads"},
      {"kv_heads: 2", "kv_heads: 12", "found '12', expected an integer from 1 to 6"},
      {"model: {name", "model: [1]\nnot_model: {name", "c.yaml:4:1: found unknown key 'not_model'"},
      {"seed: 0", "seed: -1", "found '-1', expected an integer from 0 to 2^64 - 1"},
      {"lengths: [2048, 8192]", "lengths: [8192, 2048]",
       "found '2048', expected ascending lengths, above 8192"},
      {"lengths: [2048, 8192]", "lengths: 2048", "found '2048', expected a list"},
      {"sha256: e3b0", "sha256: xxxx", "expected 64 hexadecimal digits"},
      {"limit: {share: 0.15", "limit: {share: 1.5", "found '1.5', expected a number in (0, 1]"},
      {"limit: {share: 0.15", "limit: {share: 0", "found '0', expected a number in (0, 1]"},
      {"achieved: {2048: 0.1497", "achieved: {1024: 0.1497",
       "found length '1024', expected one of calibration.lengths"},
      {"8192: 0.1481}, objective", "8192: 0.1501}, objective",
       "found 0.1501 at 8192, expected at most the limit's share, 0.15"},
      {"objective: error", "objective: loss", "found 'loss', expected one of error, square, mass"},
      {"recall_mean: 0.9512", "recall_mean: 1.01", "expected a number in [0, 1]"},
      {", recall_last: 0.99", "", "found no key 'recall_last', expected it in this map"},
      {"block: 64", "block: 128", "found '128', expected an integer from 64 to 64"},
      {"last: 64", "last: -1", "found '-1', expected an integer from 0"},
      {"kernel:", "warnings: []\nkernel:", "found no warnings, expected one at least"},
      {"kernel:", "warnings: text\nkernel:", "expected a list"},
      {"kernel:", "warnings: [\"\"]\nkernel:", "found an empty warning, expected a text"},
      {"kernel:", "warnings: [[a]]\nkernel:", "found a list, expected text"},
      {"gap: 1.2e-05", "gap: 1.2e-05, loss: 0", "found '0', expected a number above 0"},
      {"last: 64", "last: 64, dense_below: -1", "found '-1', expected an integer from 0"},
      {"last: 64", "last: 64, dense_below: 0.5", "found '0.5', expected an integer from 0"},
      {"sink: 16, local: 128, density", "sink: -3, local: 128, density",
       "c.yaml:18:53: found '-3', expected an integer from 0"},
      {"density: {2048: 0.012", "density: {2048: 0", "found '0', expected a number above 0"},
      {"density: {2048: 0.012", "density: {4096: 0.012",
       "c.yaml:18:79: found length '4096', expected one of calibration.lengths"},
      {"density: {2048: 0.012", "density: {02048: 1, 2048: 0.012",
       "found length '2048' again, expected it once"},
      {"density: {2048: 0.012, 8192: 0.004}", "density: {}",
       "found an empty map, expected a value"},
      {"share: {2048: 0.18", "share: {2048: 1.1", "found '1.1', expected a number in (0, 1]"},
      {"local: 128, density", "local: 12.5, density", "found '12.5', expected an integer"},
      {"local: 128, density", "density", "found no key 'local'"},
      {"local: {2048: 256", "local: {2048: 0", "found '0', expected an integer from 1"},
      {"density: 0.25, ", "", "found no budget, expected density, share, or both"},
      {"vertical: 1000, slash: 4096", "vertical: 1000, slash: 4096, density: 0.1",
       "found 'density', expected only vertical, slash, share for vertical_slash by "},
      {"vertical: 1000, slash: 4096", "vertical: 1000", "found no key 'slash'"},
      {"estimate: pooled, blocks: 100", "estimate: pooled, slash: 3",
       "found 'slash', expected only estimate, stride, blocks, share for block_sparse"},
      {"estimate: pooled, blocks: 100", "estimate: pooled, blocks: 0",
       "found '0', expected an integer from 1"},
      {"estimate: pooled, blocks: 100", "estimate: pooled, stride: 8, blocks: 100",
       "found a stride, expected none for pooled"},
      {"estimate: pooled, blocks: 100", "blocks: 100", "found no key 'estimate'"},
      {"stride: 8", "stride: 9", "found '9', expected 8 or 16"},
      {"pattern: dense", "pattern: dense, sink: 16",
       "found 'sink', expected no parameters for dense"},
      {"pattern: dense", "pattern: sparse", "found 'sparse', expected one of dense, a_shape"},
      {"head: 5, pattern: block", "head: 6, pattern: block",
       "c.yaml:23:12: found '6', expected an integer from 0 to 5"},
      {"head: 5, pattern: block", "head: 4, pattern: block",
       "c.yaml:23:12: found head 4 again, expected it once"},
      {"\n  - {head: 5, pattern: dense, recall: 1}", "", "found no head 5, expected all of 0 to 5"},
      {"- layer: 1", "- layer: 0", "found layer 0 again, expected it once"},
      {"layers: 2,", "layers: 3,", "found no layer 2, expected all of 0 to 2"},
      {"heads: 6, kv", "heads: 8, kv", "found no head 6, expected all of 0 to 7"},
      {"schema_version: 1", "schema_version: 7\nnovelty: 1",
       "c.yaml:2:17: found schema_version 7, expected at most 1, the newest that this version "
       "reads"},
      {"schema: mi.head_config", "schema: mi.recipe",
       "c.yaml:1:9: found 'mi.recipe', expected schema mi.head_config"},
      {"schema: mi.head_config\n", "", "found no key 'schema', expected schema: mi.head_config"},
      {"kernel: {block", "kernel: {last: 3, block",
       "c.yaml:14:40: found key 'last' again, expected it once (first at line 14)"},
      {"kernel:", "limit: {}\nkernel:", "c.yaml:14:1: found key 'limit' again"},
      {"kernel: {", "kernel: &a {", "found an anchor, expected plain values"},
      {"recall: 1}", "recall: *a}", ""},
      {"name: SmolLM2-135M-Instruct", "name: !!str x", "found a tag, expected none"},
      {"name: SmolLM2-135M-Instruct", "name: ", "found nothing, expected text"},
      {"name: SmolLM2-135M-Instruct", "name: {a: b}", "found a map, expected text"},
      {"name: SmolLM2-135M-Instruct", "name: \"a\\N\"", "found an escape that gives no UTF-8"},
      {"name: SmolLM2-135M-Instruct", "name: \x04",
       "c.yaml:3:15: found byte 0x04, expected UTF-8 text"},
      {"name: SmolLM2-135M-Instruct", "name: \xff\xfe", "found byte 0xff, expected UTF-8 text"},
      {"kernel: {block: 64", "kernel: {block: 64, tile: 64", "found key 'tile' again"},
      {"kernel: {block: 64", "kernel: {block: 64}}", "found text that is not YAML"},
      {"layers:\n-", "---\nlayers:\n-", "found a second document, expected one"},
      {"name: SmolLM2-135M-Instruct", "? [1]", ""},
  }));
  const std::string error = error_of(with(item.from, item.to));
  INFO("error: " << error);
  CHECK(error != "accepted");
  CHECK(error.rfind("c.yaml:", 0) == 0);
  CHECK(error.find(item.error) != std::string::npos);
}

TEST_CASE("hostile files are one error, not a crash") {
  CHECK(error_of("").find("found an empty file") != std::string::npos);
  CHECK(error_of("[1, 2]").find("found a list, expected a map with schema") != std::string::npos);
  CHECK(error_of("~").find("found nothing, expected a map") != std::string::npos);
  const std::string deep(100'000, '[');
  CHECK(error_of("a: " + deep).find("nesting deeper than 32") != std::string::npos);
  std::string steps;
  for (int i = 0; i < 1000; ++i) steps += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  CHECK(error_of(steps).find("nesting deeper than 32") != std::string::npos);
  CHECK(error_of("a: &a [1]\nb: [*a, *a]").find("an anchor") != std::string::npos);
  CHECK(error_of(std::string(kMaxYamlBytes + 1, ' ')).find("expected at most") !=
        std::string::npos);
}

TEST_CASE("every shipped config loads, and is what its writer would write again") {
  int configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MI_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;  // the score report
    INFO(entry.path());
    const auto config = load_config(entry.path());
    REQUIRE(config);
    const auto text = read_text_file(entry.path());
    REQUIRE(text);
    CHECK(dump_config(*config) == *text);
    ++configs;
  }
  CHECK(configs > 0);
}

TEST_CASE("a missing or unreadable config is an io error that names it") {
  for (const std::string path : {"/nonexistent/a.yaml", MI_TEST_DATA}) {
    const auto config = load_config(path);
    REQUIRE(!config);
    CHECK(config.error().code == Code::io);
    CHECK(config.error().what.find(path) != std::string::npos);
  }
}

}  // namespace mi::runtime
