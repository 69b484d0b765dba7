// Pictures of heads: mass is all there, what is left out is what the certificate misses, and no
// other config's pattern is shown as a head's own.
#include "libsearch/report/picture.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <sstream>

#include "libsearch/search/planned_attention.h"
#include "libsearch/search/search.h"
#include "tests/search/model_support.h"
#include "tests/support.h"

namespace mi::search {
namespace {

ComputeOptions some_compute() {
  ComputeOptions compute;
  compute.backend = &(*kernels::choose_backend())->f32();
  compute.last = 16;
  return compute;
}

Sample sample_of(int64_t length) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<int32_t>((i * i + 7 * i) % tiny_model().spec().vocab));
  auto sample = sample_from_ids(ids, 0, length, "test");
  REQUIRE(sample);
  return std::move(*sample);
}

// A head of each kind of selection, without caps: pictures do not apply them.
runtime::HeadConfig some_config() {
  runtime::HeadConfig config = dense_config(tiny_model().spec());
  config.kernel.last = 16;
  for (auto& layer : config.layers) {
    layer[0].pattern = runtime::Pattern::stripe;
    layer[0].local[0] = 32;
    layer[0].density[0] = 0.05;
    layer[1].pattern = runtime::Pattern::a_shape;
    layer[1].local[0] = 64;
    layer[2].pattern = runtime::Pattern::vertical_slash;
    layer[2].density[0] = 0.05;
    for (size_t head = 0; head < 3; ++head) layer[head].sink = 4;
  }
  return config;
}

struct Taken {
  HeadPictures pictures;
  SampleVerdict verdict;
};

Taken taken(int64_t length) {
  const Sample samples[] = {sample_of(length)};
  auto verified = verify(tiny_model(), some_config(), samples, some_compute(), {}, true);
  INFO((verified ? "" : verified.error().what));
  REQUIRE(verified);
  REQUIRE(verified->pictures);
  REQUIRE(verified->verdicts[0].capped_heads == 0);
  return {std::move(*verified->pictures), verified->verdicts[0]};
}

TEST_CASE("pictures hold all of the mass, and what is left out is what the certificate misses",
          "[cpu]") {
  const int64_t length = GENERATE(1, 63, 64, 65, 500, 64 * 64, 64 * 64 + 1);
  INFO("length " << length);
  const auto [pictures, verdict] = taken(length);
  const int64_t blocks = (length + 63) / 64;
  const int64_t cells = pictures.cells;
  REQUIRE(cells == std::min<int64_t>(64, blocks));
  const auto& mass = pictures.planes[HeadPictures::mass];
  const auto& lost = pictures.planes[HeadPictures::lost];
  const auto& kept = pictures.planes[HeadPictures::taken];
  REQUIRE(mass.size() == static_cast<size_t>(2 * 4 * cells * cells));
  double left_out = 0;
  for (size_t head = 0; head < 8; ++head) {
    for (int64_t row = 0; row < cells; ++row) {
      int64_t rows = 0;
      for (int64_t block = 0; block < blocks; ++block)
        if (block * cells / blocks == row) rows += std::min<int64_t>(64, length - block * 64);
      double sum = 0;
      for (int64_t column = 0; column < cells; ++column) {
        const size_t at = (head * static_cast<size_t>(cells) + static_cast<size_t>(row)) *
                              static_cast<size_t>(cells) +
                          static_cast<size_t>(column);
        sum += static_cast<double>(mass[at]);
        left_out += static_cast<double>(lost[at]) * static_cast<double>(rows);
        const bool sound = lost[at] <= mass[at] * 1.02F && kept[at] <= 1 &&
                           (kept[at] < 1 || lost[at] == 0) &&
                           (column <= row || (mass[at] == 0 && kept[at] == 0));
        if (!sound) FAIL("head " << head << " row " << row << " column " << column);
        if (head % 4 == 3 && column <= row) CHECK(kept[at] == 1);  // dense
      }
      CHECK(std::abs(sum - 1) < 0.01);
    }
  }
  CHECK(std::abs(left_out / (8 * static_cast<double>(length)) - (1 - verdict.recall)) < 2e-3);
}

TEST_CASE("a picture of a long prompt shows that mass is missed", "[cpu]") {
  const auto [pictures, verdict] = taken(1024);
  CHECK(verdict.recall < 0.9);  // else the test above compares nothing with nothing
}

TEST_CASE("what a pattern takes is shown of the config that was drawn only", "[cpu]") {
  ScoreReport report;
  report.pictures = taken(500).pictures;
  const runtime::HeadConfig own = some_config();
  const auto lines = [](const std::string& text) {
    std::vector<std::string> found;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) found.push_back(line);
    return found;
  };
  const auto text = lines(picture_text(report, own, {0, 3}, 100));
  REQUIRE(text.size() == 2 + 8);  // eight row blocks
  CHECK(text[0] == "test, 500 tokens: rows of queries downwards, keys to the right");
  CHECK(text[1].find("keys taken") != std::string::npos);
  CHECK(text[9].find("|@@@@@@@@ ") != std::string::npos);  // a dense head's last rows
  CHECK(lines(picture_text(report, own, {0, 3}, 60))[1].find("mass left out") == std::string::npos);
  ScoreReport longer = report;
  longer.pictures->source = std::string(100, 'n');
  for (const std::string& line : lines(picture_text(longer, own, {0, 3}, 80)))
    CHECK(line.size() <= 80);

  runtime::HeadConfig other = own;
  other.layers[0][0].sink = 8;
  CHECK(is_drawn_as(*report.pictures, own, {0, 0}));
  CHECK(!is_drawn_as(*report.pictures, other, {0, 0}));
  CHECK(is_drawn_as(*report.pictures, other, {0, 1}));
  const std::string of_other = picture_text(report, other, {0, 0}, 100);
  CHECK(of_other.find("keys taken") == std::string::npos);
  CHECK(of_other.find("drawn for other parameters") != std::string::npos);
  CHECK(picture_text(ScoreReport(), own, {0, 0}, 100).empty());
  CHECK(picture_base64(*report.pictures, {0, 0}, HeadPictures::mass).size() == 8 * 9 / 2 / 3 * 4);
}

TEST_CASE("a config that finds its thresholds at run time is not drawn", "[cpu]") {
  runtime::HeadConfig config = some_config();
  config.layers[0][0].density.clear();
  config.layers[0][0].share[0] = 0.2;
  const ComputeOptions compute = some_compute();
  const auto taker = PictureTaker::make(config, sample_of(500), compute);
  REQUIRE(!taker);
  CHECK(taker.error().what == "pictures: 500 tokens lie outside the calibrated lengths");
}

}  // namespace
}  // namespace mi::search
