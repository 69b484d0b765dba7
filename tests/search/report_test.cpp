#include "libsearch/report/text.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <sstream>
#include <string>

#include <nlohmann/json.hpp>

#include "tests/support.h"

namespace mi::search {
namespace {

runtime::HeadConfig frozen() {
  auto config = runtime::load_config(std::string(MI_TEST_DATA) + "/config_v1.yaml");
  REQUIRE(config);
  return *config;
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the table says model, limit, mix, recall, worst heads and certificate") {
  const std::string text = show_table(frozen(), {100, false});
  has(text, "model       SmolLM2-135M-Instruct");
  has(text, "llama, 2 layers x 6 heads (2 KV heads), head_dim 64");
  has(text,
      "limit       15.00 % of dense\n"
      "executes    14.97 % at 2048, 14.81 % at 8192 on the calibration samples\n");
  has(text, "allocation  global, objective error, gap to the optimum at most 1.2e-05");
  has(text,
      "recall      mean 0.9512   p05 of heads 0.8123   last rows 0.9900\n"
      "            worst head and sample 0.4012\n");
  has(text, "    1       1        .               2             2       1");
  has(text, "   1.3  0.0000  vertical_slash        vertical 0, slash 10");
  has(text, "KL(dense, sparse) 0.018 nats per token");
  has(text, "a/b: at 2048/8192 tokens");
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find(" \n") == std::string::npos);
}

TEST_CASE("the gap is told relative to the loss where the file holds it") {
  runtime::HeadConfig config = frozen();
  config.limit.loss = 0.05;
  has(show_table(config, {100, false}),
      "allocation  global, objective error, within 0.024 % of the least loss possible");
  const auto limit = nlohmann::json::parse(show_json(config))["limit"];
  CHECK(limit["loss"] == 0.05);
  CHECK(limit["relative_gap"] == 1.2e-5 / 0.05);
}

TEST_CASE("colour adds only escapes, and marks bad recall") {
  const std::string plain = show_table(frozen(), {100, false});
  std::string coloured = show_table(frozen(), {100, true});
  has(coloured, "\x1b[31m  0.0000\x1b[0m");
  for (size_t at = 0; (at = coloured.find('\x1b')) != std::string::npos;)
    coloured.erase(at, coloured.find('m', at) - at + 1);
  CHECK(coloured == plain);
}

TEST_CASE("rows of heads fit the terminal") {
  std::istringstream lines(heads_table(frozen(), select_heads(frozen(), {}), {60, false}));
  std::string line;
  int rows = 0;
  for (std::getline(lines, line); std::getline(lines, line); ++rows) CHECK(line.size() <= 60);
  CHECK(rows == 13);
  std::istringstream narrow(show_table(frozen(), {70, false}));
  while (std::getline(narrow, line))
    if (line.find("layer") == 0) CHECK(line.size() <= 70);
  runtime::HeadConfig other = frozen();
  for (auto& layer : other.layers)
    for (runtime::HeadEntry& entry : layer) entry.sink += 1;
  std::istringstream eighty(
      show_table(frozen(), {80, false}) +
      diff_table(frozen(), other, different_heads(frozen(), other), {80, false}));
  while (std::getline(eighty, line)) {
    INFO(line);
    CHECK(line.size() <= 80);
  }
}

TEST_CASE("a config without certificate says so") {
  runtime::HeadConfig config = frozen();
  config.quality.held_out.reset();
  has(show_table(config, {}), "none for this budget: mi-inspect verify CONFIG ");
  CHECK(nlohmann::json::parse(show_json(config))["certificate"].is_null());
}

TEST_CASE("a certificate above the limit says what the limit holds on") {
  runtime::HeadConfig config = frozen();
  const std::string clause = "The limit holds on the calibration samples; ";
  config.quality.held_out->achieved = {{2048, 0.15}, {8192, 0.1}};
  CHECK(show_table(config, {}).find(clause) == std::string::npos);
  config.quality.held_out->achieved[2048] = 0.1502;
  has(show_table(config, {}), clause);
}

TEST_CASE("warnings are told in the table and in the JSON, and none is no heading") {
  runtime::HeadConfig config = frozen();
  CHECK(show_table(config, {100, false}).find("Warnings") == std::string::npos);
  CHECK(nlohmann::json::parse(show_json(config))["warnings"].empty());
  config.warnings = {"first", "second\x1b[2J"};
  has(show_table(config, {100, false}), "Warnings\n  first\n  second?[2J\n");
  CHECK(nlohmann::json::parse(show_json(config))["warnings"][0] == "first");
}

TEST_CASE("text from the file cannot drive the terminal or break the JSON") {
  runtime::HeadConfig config = frozen();
  config.model.name = "evil\x1b[2J\n\xff";
  CHECK(show_table(config, {100, false}).find('\x1b') == std::string::npos);
  CHECK(!nlohmann::json::parse(show_json(config))["model"]["name"].get<std::string>().empty());
}

TEST_CASE("an empty config is shown, not a crash") {
  const runtime::HeadConfig config;
  CHECK(!show_table(config, {}).empty());
  CHECK(!heads_table(config, {}, {}).empty());
  CHECK(nlohmann::json::parse(heads_json(config, {}))["heads"].empty());
}

TEST_CASE("JSON holds the same facts") {
  const auto show = nlohmann::json::parse(show_json(frozen()));
  CHECK(show["limit"]["achieved"]["8192"] == 0.1481);
  CHECK(show["recall"]["p05"] == 0.8123);
  CHECK(show["layers"][1]["patterns"]["block_sparse"] == 2);
  CHECK(show["layers"].size() == 2);
  CHECK(show["worst_heads"][0]["head"] == 3);
  CHECK(show["worst_heads"].size() == 10);
  CHECK(show["certificate"]["logit_kl"] == 0.018);
  const auto heads =
      nlohmann::json::parse(heads_json(frozen(), select_heads(frozen(), {})))["heads"];
  REQUIRE(heads.size() == 12);
  CHECK(heads[0]["density"]["2048"] == 0.012);
  CHECK(heads[1]["vertical"] == 1000);
  CHECK(heads[5]["stride"] == 8);
}

TEST_CASE("worst heads come by recall, then by place") {
  const auto places = worst_heads(frozen(), 4);
  REQUIRE(places.size() == 4);
  CHECK(places[0].layer == 1);
  CHECK(places[0].head == 3);
  CHECK(places[3].layer == 0);  // 0.9 in layer 0 before 0.9 in layer 1
  CHECK(places[3].head == 3);
}

TEST_CASE("heads are selected by pattern and recall, and come in the order asked for") {
  const runtime::HeadConfig config = frozen();
  const auto all = select_heads(config, {});
  REQUIRE(all.size() == 12);
  for (size_t i = 0; i < all.size(); ++i)
    CHECK(all[i] == HeadPlace{static_cast<int>(i / 6), static_cast<int>(i % 6)});
  for (const HeadOrder order : {HeadOrder::place, HeadOrder::recall, HeadOrder::share})
    CHECK(select_heads(config, {.order = order}).size() == all.size());
  const auto by_recall = select_heads(config, {.order = HeadOrder::recall});
  for (size_t i = 1; i < by_recall.size(); ++i)
    CHECK(entry_at(config, by_recall[i - 1]).recall <= entry_at(config, by_recall[i]).recall);
  const auto by_share = select_heads(config, {.order = HeadOrder::share});
  CHECK(entry_at(config, by_share.front()).pattern == runtime::Pattern::dense);
  const auto blocks = select_heads(config, {.pattern = runtime::Pattern::block_sparse});
  CHECK(!blocks.empty());
  for (const HeadPlace place : blocks)
    CHECK(entry_at(config, place).pattern == runtime::Pattern::block_sparse);
  for (const HeadPlace place : select_heads(config, {.below = 0.9}))
    CHECK(entry_at(config, place).recall < 0.9);
  CHECK(select_heads(config, {.below = 0.0}).empty());
}

TEST_CASE("CSV has a row per head and length, with as many fields as its header") {
  const runtime::HeadConfig config = frozen();
  std::istringstream lines(heads_csv(config, select_heads(config, {})));
  std::string line;
  std::getline(lines, line);
  CHECK(line ==
        "layer,head,pattern,recall,estimate,stride,sink,length,local,density,share,vertical,slash,"
        "blocks");
  const auto fields = std::count(line.begin(), line.end(), ',');
  std::vector<std::string> rows;
  while (std::getline(lines, line)) {
    CHECK(std::count(line.begin(), line.end(), ',') == fields);
    rows.push_back(line);
  }
  CHECK(rows.size() > 12);  // two lengths of some heads
  CHECK(rows[0].starts_with("0,0,"));
  CHECK(rows[0].find(",2048,") != std::string::npos);
  CHECK(rows[0].find("0.012") != std::string::npos);
  CHECK(rows[1].find(",8192,") != std::string::npos);
}

TEST_CASE("configs differ where heads run otherwise, not where they were measured otherwise") {
  const runtime::HeadConfig a = frozen();
  runtime::HeadConfig b = a;
  CHECK(different_heads(a, b).empty());
  b.layers[0][2].recall /= 2;
  CHECK(different_heads(a, b).empty());
  b.layers[1][4].sink += 16;
  b.quality.held_out.reset();
  REQUIRE(different_heads(a, b).size() == 1);
  CHECK(different_heads(a, b)[0] == HeadPlace{1, 4});
  CHECK(different_heads(b, a) == different_heads(a, b));
  const std::string text = diff_table(a, b, different_heads(a, b), {100, false});
  has(text, "Heads that run otherwise: 1 of 12\n");
  has(text, "\n   1.4  +0.0000  ");
  has(text, "not certified");
  const auto json = nlohmann::json::parse(diff_json(a, b, different_heads(a, b)));
  REQUIRE(json["heads"].size() == 1);
  CHECK(json["heads"][0]["a"]["head"] == 4);
  CHECK(json["b"]["certificate"].is_null());
}

TEST_CASE("a diff tells caps from what runs, sorts by gain and cuts nothing that it need not") {
  const runtime::HeadConfig a = frozen();
  runtime::HeadConfig b = a;
  REQUIRE(a.layers[0][0].density.size() == 2);
  for (auto& [length, share] : b.layers[0][0].share) share /= 2;
  b.layers[1][4].sink += 16;
  b.layers[1][4].recall = a.layers[1][4].recall + 0.01;
  CHECK(differs_by_cap(a.layers[0][0], b.layers[0][0]));
  CHECK(!differs_by_cap(a.layers[1][4], b.layers[1][4]));
  std::vector<HeadPlace> places = different_heads(a, b);
  has(diff_table(a, b, places, {100, false}),
      "Heads that run otherwise: 2 of 12, 1 of them only by their caps (share)\n");
  CHECK(places.front() == HeadPlace{0, 0});
  sort_by_gain(places, a, b);
  CHECK(places.front() == HeadPlace{1, 4});
  has(diff_table(a, b, places, {60, false}), "...");
  const std::string whole = diff_table(a, b, places, {kUncut, false});
  CHECK(whole.find("...") == std::string::npos);
  has(whole, "1.4  +0.0100  ");
  has(whole, parameters_text(b.layers[0][0]) + "\n");
}

TEST_CASE("a head's place is read strictly") {
  const runtime::HeadConfig::Model model = frozen().model;
  REQUIRE(parse_place("1.5", model));
  CHECK(*parse_place("1.5", model) == HeadPlace{1, 5});
  REQUIRE(parse_place("L1H5", model));
  CHECK(*parse_place("L1H5", model) == HeadPlace{1, 5});
  for (const std::string text : {"", "1", "1.", ".5", "1.6", "2.0", "-1.0", "1.5x", "1,5", " 1.5",
                                 "L1.5", "1H5", "L1", "L1H6"})
    CHECK(!parse_place(text, model));
}

}  // namespace mi::search
