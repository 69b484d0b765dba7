#include "libsearch/search/candidates.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "tests/support.h"

namespace mi::search {
namespace {

TEST_CASE("the shipped candidate space is the default one", "[cpu]") {
  const auto space = load_candidates(MI_SOURCE_DIR "/calib_data/candidates.yaml");
  REQUIRE(space);
  const CandidateSpace standard = default_candidates();
  REQUIRE(space->families.size() == standard.families.size());
  for (size_t f = 0; f < standard.families.size(); ++f) {
    INFO("family " << f);
    CHECK(space->families[f].params == standard.families[f].params);
    CHECK(space->families[f].values == standard.families[f].values);
  }
}

TEST_CASE("candidate spaces read back as they were written", "[cpu]") {
  CandidateSpace mixed = default_candidates();
  for (const Family& family : published_candidates(8192).families) {
    mixed.families.push_back(family);
    // Rounded counts come twice, which files may not say.
    auto& values = mixed.families.back().values;
    values.erase(std::unique(values.begin(), values.end()), values.end());
  }
  for (const CandidateSpace& space : {default_candidates(), mixed}) {
    const auto back = parse_candidates(dump_candidates(space), "c.yaml");
    INFO((back ? "" : back.error().what));
    REQUIRE(back);
    CHECK(*back == space);
  }
}

TEST_CASE("candidates are numbered through the families, dense last", "[cpu]") {
  const CandidateSpace space = default_candidates();
  std::set<std::pair<size_t, size_t>> seen;
  for (size_t c = 0; c + 1 < space.candidates(); ++c) {
    const CandidateId id = candidate_id(space, c);
    REQUIRE(id.family < space.families.size());
    REQUIRE(id.index < space.families[id.family].values.size());
    CHECK(seen.insert({id.family, id.index}).second);
    if (id.index > 0)
      CHECK(space.families[id.family].lambda(id.index) <
            space.families[id.family].lambda(id.index - 1));
  }
  CHECK(candidate_id(space, space.candidates() - 1).family == space.families.size());
}

TEST_CASE("a wrong candidate space is one line with its place", "[cpu]") {
  const auto refused = [](const std::string& families, const std::string& what) {
    const std::string text = "schema: mi.candidates\nschema_version: 1\nfamilies:\n" + families;
    const auto space = parse_candidates(text, "c.yaml");
    INFO(families);
    REQUIRE(!space);
    CHECK(space.error().code == Code::schema);
    CHECK(space.error().what.find("c.yaml:") != std::string::npos);
    INFO(space.error().what);
    CHECK(space.error().what.find(what) != std::string::npos);
  };
  refused("- {pattern: spiral, density: [1]}\n", "spiral");
  refused("- {pattern: stripe, sink: 16, local: 128, density: [1, 2]}\n", "2 after 1");
  refused("- {pattern: a_shape, sink: 16, local: [64, 64]}\n", "64 after 64");
  refused("- {pattern: a_shape, sink: 16, local: [64.5]}\n", "64.5");
  refused("- {pattern: block_sparse, estimate: pooled, blocks: [0]}\n", "0");
  refused("- {pattern: stripe, sink: 16, local: 128, density: []}\n", "0 values");
  refused("- {pattern: stripe, sink: 16, local: 128, density: [.nan]}\n", ".nan");
  refused("- {pattern: stripe, sink: -1, local: 128, density: [1]}\n", "-1");
  refused("- {pattern: stripe, sink: 16, local: 128, density: [1], blocks: [3]}\n", "blocks");
  refused("- {pattern: block_sparse, estimate: antidiagonal, stride: 9, blocks: [3]}\n", "9");
  refused("- {pattern: vertical_slash, vertical: 30, slash: 800, factors: [1], sink: 4}\n", "sink");
  CHECK(
      parse_candidates("schema: mi.candidates\nschema_version: 2\n", "c").error().what.find("2") !=
      std::string::npos);
  CHECK(load_candidates("/nonexistent/c.yaml").error().code == Code::io);
}

}  // namespace
}  // namespace mi::search
