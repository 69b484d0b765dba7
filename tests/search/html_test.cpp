// The HTML page: its numbers are the report's, whatever names the files contain, and it stays
// small.
#include "libsearch/report/html.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/report/chosen.h"
#include "libsearch/report/head.h"
#include "tests/support.h"

namespace mi::search {
namespace {

using nlohmann::json;

// As a search would leave it: one sample per length, errors fall and costs rise with the candidate.
ScoreReport made_report(int layers, int heads, const std::vector<int64_t>& lengths,
                        CandidateSpace space = default_candidates()) {
  ScoreReport report;
  report.model = {.name = "Made up",
                  .architecture = "llama",
                  .layers = layers,
                  .heads = heads,
                  .kv_heads = heads,
                  .head_dim = 64,
                  .rope_theta = 10000,
                  .fingerprint = "sha256:" + std::string(64, 'a')};
  report.backend = "cpu_generic";
  report.space = std::move(space);
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform(0.5, 1);
  for (const int64_t length : lengths) {
    report.samples.push_back({"text", length, std::string(64, 'b')});
    SampleScores& sample = report.table.samples.emplace_back();
    sample.length = length;
    sample.layers.resize(static_cast<size_t>(layers));
    for (auto& layer : sample.layers) {
      for (int h = 0; h < heads; ++h) {
        auto& scores = layer.emplace_back();
        for (size_t c = 0; c + 1 < report.space.candidates(); ++c) {
          const CandidateId id = candidate_id(report.space, c);
          const auto count = static_cast<double>(report.space.families[id.family].values.size());
          const double spent = (static_cast<double>(id.index) + uniform(random)) / count;
          const double lost = uniform(random) * std::exp(-4 * spent);
          scores.push_back({.recall = 1 - lost,
                            .recall_p05 = std::max(0.0, 1 - 1.2 * lost),
                            .recall_min = std::max(0.0, 1 - 1.5 * lost),
                            .recall_last = 1,
                            .error = 0.01 * lost * lost,
                            .share = 0.02 + 0.98 * spent,
                            .oracle_lost = lost / 2});
        }
        scores.push_back(
            {.recall = 1, .recall_p05 = 1, .recall_min = 1, .recall_last = 1, .share = 1});
      }
    }
  }
  return report;
}

runtime::HeadConfig configured(const ScoreReport& report, double limit) {
  SearchOptions options;
  options.limit = limit;
  auto made = configure(report, options);
  INFO((made ? "" : made.error().what));
  REQUIRE(made);
  return made->config;
}

json data_of(const std::string& page) {
  const std::string start = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(start);
  REQUIRE(begin != std::string::npos);
  const size_t end = page.find("</script>", begin);
  return json::parse(page.substr(begin + start.size(), end - begin - start.size()));
}

size_t count_of(const std::string& page, const std::string& text) {
  size_t count = 0;
  for (size_t at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++count;
  return count;
}

constexpr double kRounding = 5.1e-5;

TEST_CASE("a head's figures are its candidate's, by length and by sample, and it is drawn") {
  const ScoreReport report = made_report(3, 5, {1024, 4096});
  runtime::HeadConfig config = configured(report, 0.3);
  const HeadPlace place{2, 4};
  const std::string text = head_text(report, config, place, {100, false});
  INFO(text);
  CHECK(text.starts_with("layer 2 head 4 of "));
  CHECK(text.find('\x1b') == std::string::npos);
  const auto chosen = chosen_candidates(report, config)[2][4];
  REQUIRE(chosen.size() == 2);
  const auto figures = figures_of(report.table.samples, 4096, place, chosen[1]);
  CHECK(text.find(fmt::format("4096 tokens   {:>9.4f}", figures.recall)) != std::string::npos);
  for (const runtime::SampleNote& note : report.samples)
    CHECK(text.find("  " + note.source) != std::string::npos);
  CHECK(count_of(text, "@") == 2);  // the picture's and the legend's
  std::istringstream lines(head_text(report, config, place, {60, false}).substr(text.find("Cand")));
  for (std::string line; std::getline(lines, line) && line.find("cost:") == std::string::npos;)
    CHECK(line.size() <= 60);
  ScoreReport longer = report;
  longer.samples[0].source = std::string(100, 'n');
  std::istringstream eighty(head_text(longer, config, place, {80, false}));
  for (std::string line; std::getline(eighty, line);) CHECK(line.size() <= 80);
  config.layers[2][4].sink += 1;
  const std::string edited = head_text(report, config, place, {});
  CHECK(edited.find("none of the report's candidates") != std::string::npos);
  CHECK(count_of(edited, "@") == 0);
}

TEST_CASE("where the objective gave up recall, a head's text says for what") {
  ScoreReport report = made_report(3, 5, {1024, 4096});
  for (SampleScores& sample : report.table.samples)
    for (auto& layer : sample.layers)
      for (auto& scores : layer)
        for (size_t c = 0; c + 1 < scores.size(); c += 2) scores[c].error *= 10;
  const runtime::HeadConfig config = configured(report, 0.3);
  int gave_up = 0;
  for (int layer = 0; layer < 3; ++layer)
    for (int head = 0; head < 5; ++head) {
      const HeadPlace place{layer, head};
      const auto chosen = chosen_candidates(report, entry_at(config, place));
      REQUIRE(chosen.size() == 2);
      const HeadFigures own = figures_of(report.table.samples, 4096, place, chosen[1]);
      HeadFigures best = own;
      for (size_t c = 0; c + 1 < report.space.candidates(); ++c) {
        const HeadFigures other = figures_of(report.table.samples, 4096, place, c);
        if (other.share <= own.share && other.recall > best.recall) best = other;
      }
      const std::string text = head_text(report, config, place, {}, 4096);
      INFO(text);
      const bool more = best.recall >= own.recall + 0.005;
      gave_up += more ? 1 : 0;
      CHECK((text.find("More recall at no more cost") != std::string::npos) == more);
      if (more) {
        CHECK(text.find(fmt::format("cost: {:.4f} by\n", best.recall)) != std::string::npos);
        CHECK(text.find(fmt::format("error is {:.3g}, that of the chosen one {:.3g}", best.error,
                                    own.error)) != std::string::npos);
      }
    }
  CHECK(gave_up > 0);
}

TEST_CASE("a head is charted where it keeps least, and names what has less error there") {
  ScoreReport report = made_report(3, 5, {1024, 4096});
  runtime::HeadConfig config = configured(report, 0.3);
  for (auto& layer : report.table.samples[0].layers)  // as good at one length, but not at both
    for (auto& scores : layer) scores[0].share = scores[0].error = 0;
  int less = 0;
  for (int layer = 0; layer < 3; ++layer)
    for (int head = 0; head < 5; ++head) {
      const HeadPlace place{layer, head};
      const auto chosen = chosen_candidates(report, entry_at(config, place));
      REQUIRE(chosen.size() == 2);
      const auto of = [&](size_t t, size_t candidate) {
        return figures_of(report.table.samples, t == 0 ? 1024 : 4096, place, candidate);
      };
      const size_t worst = of(0, chosen[0]).recall < of(1, chosen[1]).recall ? 0 : 1;
      const std::string text = head_text(report, config, place, {});
      INFO(text);
      CHECK(text.find(fmt::format("Candidates at {} tokens", worst == 0 ? 1024 : 4096)) !=
            std::string::npos);
      CHECK(head_text(report, config, place, {}, 1024).find("Candidates at 1024 tokens") !=
            std::string::npos);
      const HeadFigures own = of(worst, chosen[worst]);
      double least = own.error;
      for (size_t c = 0; c + 1 < report.space.candidates(); ++c)
        if (of(worst, c).share <= own.share) least = std::min(least, of(worst, c).error);
      const bool found = least <= 0.95 * own.error;
      less += found ? 1 : 0;
      CHECK((text.find("Less output error at no more cost") != std::string::npos) == found);
    }
  CHECK(less > 0);
  config.layers[0][0] = runtime::HeadEntry();  // dense: nothing is better
  CHECK(head_text(report, config, {0, 0}, {}).find("no more cost") == std::string::npos);
}

TEST_CASE("the page's numbers are the report's and the config's", "[cpu]") {
  const ScoreReport report = made_report(3, 5, {1024, 4096});
  const runtime::HeadConfig config = configured(report, 0.3);
  const auto curve = pareto_curve(report, {});
  REQUIRE(curve);
  const auto published = published_curve(report, Objective::error);
  const std::string page =
      html_page(report, config, {.curve = *curve, .published = published, .heads = {}});
  const json data = data_of(page);
  REQUIRE(data["heads"].size() == 15);
  CHECK(data["lengths"] == json({1024, 4096}));
  std::vector<double> cost(2);
  for (size_t i = 0; i < 15; ++i) {
    const json& head = data["heads"][i];
    const runtime::HeadEntry& entry = config.layers[i / 5][i % 5];
    CHECK(data["patterns"][head[0].get<size_t>()] == std::string(to_string(entry.pattern)));
    CHECK(std::abs(head[1].get<double>() - entry.recall) < kRounding);
    CHECK(head[3] == parameters_text(entry));
    REQUIRE(head[4].size() == 2);
    double recall = 0;
    for (size_t t = 0; t < 2; ++t) {
      // The config's recall was worked out from the allocation, not from its parameters.
      recall += head[5][t][0].get<double>() / 2;
      cost[t] += head[5][t][4].get<double>() / 15;
      const size_t candidate = head[4][t];
      const CandidateScore& score = report.table.samples[t].layers[i / 5][i % 5][candidate];
      const json& shares = data["clouds"][std::to_string(i)][t][0];
      const json& errors = data["clouds"][std::to_string(i)][t][1];
      REQUIRE(shares.size() == report.space.candidates());
      CHECK(std::abs(shares[candidate].get<double>() - score.share) < 1e-5);
      CHECK(std::abs(errors[candidate].get<double>() - score.error) <= 0.005 * score.error);
      CHECK(std::abs(head[5][t][1].get<double>() - score.recall_p05) < kRounding);
      CHECK(std::abs(head[5][t][5].get<double>() - (1 - score.recall - score.oracle_lost)) <
            kRounding);
    }
    CHECK(std::abs(recall - entry.recall) < 2 * kRounding);
    CHECK(page.find(fmt::format("<title>L{} H{} {}, recall {:.4f}, cost ", i / 5, i % 5,
                                to_string(entry.pattern), entry.recall)) != std::string::npos);
  }
  CHECK(std::abs(cost[0] - config.limit.achieved.at(1024)) < kRounding);
  CHECK(std::abs(cost[1] - config.limit.achieved.at(4096)) < kRounding);
  CHECK(count_of(page, "<rect ") == 3 * 15);
  CHECK(page.find(fmt::format("{:.4f}</dd>", config.quality.recall_mean)) != std::string::npos);
  CHECK(page.find("Not certified") != std::string::npos);
  for (const ParetoPoint& point : *curve)
    CHECK(page.find(fmt::format("<td>{:.4g}</td><td>{:.4f}</td>", point.loss, point.recall_mean)) !=
          std::string::npos);
  REQUIRE_FALSE(published.empty());
  for (const ParetoPoint& point : published) {
    CHECK(page.find(fmt::format("<td>{:.4g}</td><td>{:.4f}</td>", point.loss, point.recall_mean)) !=
          std::string::npos);
    // It has fewer candidates and each head's own limit: no better than the best allocation.
    CHECK(point.executed <= point.limit + 1e-9);
    for (const ParetoPoint& best : *curve)
      if (best.limit == point.limit) CHECK(point.loss >= best.loss * (1 - 1e-3));
  }
  // The config's own loss is summed up from the scores of what its heads chose.
  CHECK(page.find(fmt::format("<td>{:.4g}</td><td>{:.4f}</td>", config.limit.loss,
                              config.quality.recall_mean)) != std::string::npos);
  CHECK(page.find("http") == page.find("http-equiv"));  // fetches nothing
  CHECK(count_of(page, "http") == 1);
}

TEST_CASE("what every head of a config chose is found among the candidates", "[cpu]") {
  const bool published = GENERATE(false, true);
  const ScoreReport report = published ? made_report(2, 4, {2048}, published_candidates(2048))
                                       : made_report(4, 6, {1024, 2048});
  for (const double limit : {0.1, 0.3, 0.9, 1.0}) {
    const runtime::HeadConfig config = configured(report, limit);
    for (const auto& layer : chosen_candidates(report, config))
      for (const ChosenCandidates& chosen : layer) CHECK(chosen.size() == report.samples.size());
  }
}

TEST_CASE("an edited head is said to be edited", "[cpu]") {
  const ScoreReport report = made_report(2, 3, {1024, 4096});
  runtime::HeadConfig config = configured(report, 0.3);
  runtime::HeadEntry& entry = config.layers[1][2];
  entry = {};
  entry.pattern = runtime::Pattern::stripe;
  entry.sink = 5;
  entry.local = {{0, 32}};
  entry.density = {{1024, 0.0625}, {4096, 0.0625}};
  entry.recall = 0.25;
  CHECK(chosen_candidates(report, config)[1][2].empty());
  const std::string page = html_page(report, config, {});
  CHECK(page.find("<title>L1 H2 stripe edited, recall 0.2500") != std::string::npos);
  CHECK(page.find("1 of the heads were edited") != std::string::npos);
  CHECK(page.find("not among the candidates") != std::string::npos);
  const json data = data_of(page);
  CHECK(data["heads"][5][4].empty());
  CHECK(data["heads"][5][5].empty());
  CHECK(data["clouds"]["5"].size() == 2);
  entry.sink = 4;  // now one of the candidates, as is a threshold given once for all lengths
  entry.density = {{0, 0.0625}};
  CHECK(chosen_candidates(report, config)[1][2].size() == 2);
  entry.density = {{1024, 0.0625}};
  CHECK(chosen_candidates(report, config)[1][2].empty());
  for (runtime::HeadEntry& head : config.layers[1]) head = entry;
  CHECK(count_of(html_page(report, config, {}), "<td>edited</td>") == 4);  // no figures of layer 1
}

TEST_CASE("names from files are text on the page and nothing else", "[cpu]") {
  const std::string hostile =
      "</script><script>alert(1)</script><img src=x onerror='a' \"b\">\x1b&";
  ScoreReport report = made_report(1, 2, {1024});
  report.model.name = report.model.architecture = report.backend = hostile;
  report.options = report.model.fingerprint = hostile;
  report.samples[0].source = report.samples[0].sha256 = hostile;
  report.warnings = {hostile};
  report.held_out = report.samples;
  const std::string page = html_page(report, configured(report, 0.5), {});
  CHECK(count_of(page, "<script") == 2);
  CHECK(count_of(page, "</script>") == 2);
  CHECK(page.find("<img") == std::string::npos);
  CHECK(page.find('\x1b') == std::string::npos);
  CHECK(page.find("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x "
                  "onerror=&#39;a&#39; &quot;b&quot;&gt;?&amp;") != std::string::npos);
}

TEST_CASE("the page of a large model is small, with the candidates of the heads that matter",
          "[cpu]") {
  const ScoreReport report = made_report(80, 64, {4096, 8192});
  // Allocating 5120 heads takes longer than all other tests: by hand, every third head dense.
  runtime::HeadConfig config;
  config.model = report.model;
  config.limit.share = 0.5;
  config.layers.resize(80);
  for (auto& layer : config.layers) {
    for (size_t h = 0; h < 64; ++h) {
      const Family& family = report.space.families[5];
      runtime::HeadEntry entry = h % 3 == 0 ? runtime::HeadEntry() : family.entry();
      if (h % 3 != 0) {
        for (const int64_t length : {4096, 8192}) {
          family.set_values(entry, h % 20, length);
          entry.share[length] = 0.123457;
        }
      }
      entry.recall = h == 0 ? 0.5 : 0.9123;
      layer.push_back(entry);
    }
  }
  const std::vector<HeadPlace> named = {{79, 63}, {0, 0}};
  const std::string page =
      html_page(report, config, {.curve = {}, .published = {}, .heads = named});
  UNSCOPED_INFO("bytes: " << page.size());
  CHECK(page.size() < 5'000'000);
  const json data = data_of(page);
  CHECK(data["heads"].size() == 5120);
  CHECK(data["clouds"].size() == 65);
  CHECK(data["clouds"].contains("5119"));
  CHECK(count_of(page, "<rect ") == size_t{3} * 5120);
}

TEST_CASE("a config of another model or of other samples is refused", "[cpu]") {
  const ScoreReport report = made_report(1, 2, {1024});
  const runtime::HeadConfig config = configured(report, 0.5);
  CHECK(check_same_scores(report, "r.h5", config, "c.yaml"));
  const auto refusal = [&](const auto& change) {
    runtime::HeadConfig other = config;
    change(other);
    const Status status = check_same_scores(report, "r.h5", other, "c.yaml");
    CHECK(status.code == Code::schema);
    return status.what;
  };
  CHECK(refusal([](auto& c) { c.model.fingerprint = "sha256:cccccccccc"; }) ==
        "c.yaml: model: found Made up (sha256:cccccccc), 1 layers x 2 heads, expected Made up "
        "(sha256:aaaaaaaa), 1 layers x 2 heads as in r.h5");
  CHECK(refusal([](auto& c) { c.calibration.samples.clear(); }) ==
        "c.yaml: calibration: found 0 samples, expected 1 as in r.h5");
  CHECK(refusal([](auto& c) { c.calibration.samples[0].sha256[0] = 'c'; }) ==
        "c.yaml: calibration sample 0: found text of 1024 tokens (cbbbbbbb), expected text of 1024 "
        "tokens (bbbbbbbb) as in r.h5");
}

}  // namespace
}  // namespace mi::search
