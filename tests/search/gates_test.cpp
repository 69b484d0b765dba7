#include "libsearch/search/gates.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "tests/support.h"

namespace mi::search {
namespace {

Sample sample(std::vector<int32_t> ids, const std::string& source, const std::string& sha256) {
  Sample made;
  made.source = source;
  made.ids = std::move(ids);
  made.sha256 = sha256;
  return made;
}

// Ids of which no eight come again.
std::vector<int32_t> fresh(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(engine() % 50000));
  return ids;
}

// One layer of two heads and two candidates, sparse and dense; every sample alike.
ScoreTable table_of(const CandidateScore& first, const CandidateScore& second, size_t samples) {
  CandidateScore dense;
  dense.recall = dense.uniform_recall = 1;
  ScoreTable table;
  for (size_t s = 0; s < samples; ++s)
    table.samples.push_back({2048, {{{first, dense}, {second, dense}}}});
  return table;
}

Allocation chosen(size_t first, size_t second) {
  Allocation allocation;
  allocation.chosen = {{first, second}};
  return allocation;
}

CandidateScore score(double recall, double uniform, double oracle_lost) {
  CandidateScore made;
  made.recall = recall;
  made.uniform_recall = uniform;
  made.oracle_lost = oracle_lost;
  return made;
}

TEST_CASE("samples that differ, are long and do not repeat give no warning", "[cpu]") {
  const std::vector<Sample> calibration = {sample(fresh(2048, 1), "a", "1"),
                                           sample(fresh(4096, 1), "a", "2")};
  const std::vector<Sample> held_out = {sample(fresh(2048, 2), "b", "3"),
                                        sample(fresh(4096, 2), "b", "4")};
  CHECK(sample_warnings(calibration, held_out).empty());
}

TEST_CASE("every fault of a sample is one line that names it", "[cpu]") {
  const Sample good = sample(fresh(2048, 1), "good", "1");
  const Sample other = sample(fresh(2048, 2), "other", "2");

  SECTION("twice in calibration") {
    const auto lines = sample_warnings(std::vector{good, good}, std::vector{other});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "calibration sample \"good\" of 2048 tokens has the same tokens as \"good\"");
  }
  SECTION("held out what was calibrated on") {
    Sample same = good;
    same.source = "renamed";
    const auto lines = sample_warnings(std::vector{good}, std::vector{same});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "held-out sample \"renamed\" of 2048 tokens has the same tokens as \"good\"");
  }
  SECTION("held out what is mostly a part of what was calibrated on") {
    std::vector<int32_t> ids = fresh(2048, 1);
    const std::vector<int32_t> own = fresh(500, 4);
    std::copy(own.begin(), own.end(), ids.begin());
    const auto lines = sample_warnings(std::vector{good}, std::vector{sample(ids, "part", "4")});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "held-out sample \"part\" of 2048 tokens: 76 % of it is in calibration");
  }
  SECTION("repeats itself") {
    std::vector<int32_t> ids = fresh(2048, 3);
    for (size_t i = 500; i < ids.size(); ++i) ids[i] = ids[i - 500];
    const auto lines =
        sample_warnings(std::vector{good, sample(ids, "again", "3")}, std::vector{other});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] ==
          "sample \"again\" of 2048 tokens repeats itself: 76 % of it was there before");
    // A third is no majority.
    ids = fresh(2048, 4);
    std::copy(ids.begin(), ids.begin() + 682, ids.begin() + 1366);
    CHECK(sample_warnings(std::vector{sample(ids, "third", "4")}, std::vector{other}).empty());
  }
  SECTION("too short") {
    const auto lines = sample_warnings(std::vector{sample(fresh(1279, 5), "short", "5")},
                                       std::vector{sample(fresh(1279, 6), "short", "6")});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("samples of 1279 tokens are too short") == 0);
    CHECK(lines[0].find("1280") != std::string::npos);
  }
  SECTION("nothing held out") {
    const auto lines = sample_warnings(std::vector{good}, {});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "no held-out sample has 2048 tokens: that length is not certified");
  }
}

TEST_CASE("heads near uniform attention and far from the oracle are named, worst first", "[cpu]") {
  const CandidateScore good = score(0.95, 0.3, 0.03);
  CHECK(head_warnings(table_of(good, good, 2), chosen(0, 0)).empty());

  auto lines =
      head_warnings(table_of(score(0.42, 0.4, 0.55), score(0.4, 0.4, 0.55), 2), chosen(0, 0));
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("hardly better than uniform attention under the same mask: ") == 0);
  CHECK(lines[0].find("layer 0 head 1 (recall 0.400, uniform 0.400), layer 0 head 0") !=
        std::string::npos);
  lines = head_warnings(table_of(score(0.6, 0.2, 0.1), good, 3), chosen(0, 0));
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("far worse than the best keys at the same cost: ") == 0);
  CHECK(lines[0].find("layer 0 head 0 (recall 0.600, oracle 0.900)") != std::string::npos);

  // What is not chosen does not count, and dense loses nothing.
  CHECK(head_warnings(table_of(score(0.4, 0.4, 0.1), good, 2), chosen(1, 0)).empty());
}

TEST_CASE("a long list of heads ends in a count", "[cpu]") {
  ScoreTable table;
  table.samples.push_back(
      {2048, {std::vector<std::vector<CandidateScore>>(20, {score(0.4, 0.4, 0.6)})}});
  Allocation allocation;
  allocation.chosen = {std::vector<size_t>(20, 0)};
  const auto lines = head_warnings(table, allocation);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].ends_with("12 more"));
  CHECK(lines[0].find('\n') == std::string::npos);
}

TEST_CASE("warnings are errors only where asked for", "[cpu]") {
  const std::vector<std::string> two = {"first", "second"};
  CHECK(check_warnings(two, false));
  CHECK(check_warnings({}, true));
  const Status refused = check_warnings(two, true);
  REQUIRE(!refused);
  CHECK(refused.what == "strict: found 2 warnings, expected none: first; second");
}

}  // namespace
}  // namespace mi::search
