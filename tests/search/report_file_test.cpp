// Score reports: written and read back, continued, damaged, and of other searches.
#include "libsearch/report/report_file.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "libsearch/model/sha256.h"
#include "libsearch/data/h5_image.h"
#include "libsearch/search/search.h"
#include "tests/h5_file.h"
#include "tests/search/model_support.h"
#include "tests/support.h"
#include "tests/temporary_folder.h"

namespace mi::search {
namespace {

std::vector<Sample> samples_of(std::initializer_list<int64_t> lengths, int first) {
  std::vector<Sample> samples;
  for (const int64_t length : lengths) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < length; ++i)
      ids.push_back(
          static_cast<int32_t>((i * i + (first + 7) * i + first) % tiny_model().spec().vocab));
    auto sample = sample_from_ids(ids, 0, length, "test " + std::to_string(first++));
    REQUIRE(sample);
    samples.push_back(std::move(*sample));
  }
  return samples;
}

SearchOptions some_options() {
  SearchOptions options;
  options.limit = 0.9;
  options.compute.backend = &(*kernels::choose_backend())->f32();
  options.compute.last = 16;
  options.description = "--budget 90%";
  options.scoring = "--lengths 320,512";
  options.seed = 5;
  options.space.families.resize(3);
  return options;
}

struct Made {
  std::vector<Sample> calibration = samples_of({320, 512, 320, 512}, 1);
  std::vector<Sample> held_out = samples_of({320}, 9);
  std::string config;
  std::vector<ScoreReport> reports;  // after each sample, and with the pictures
};

Status run(Made& made, const SearchOptions& options, const ScoreReport* earlier) {
  made.reports.clear();
  const auto result = search(tiny_model(), made.calibration, made.held_out, options, {},
                             {.scored = [&](const ScoreReport& report) -> Status {
                                made.reports.push_back(report);
                                return {};
                              },
                              .earlier = earlier});
  if (!result) return result.error();
  made.config = runtime::dump_config(result->config);
  return {};
}

Made searched(SearchOptions options = some_options()) {
  Made made;
  const Status done = run(made, options, nullptr);
  INFO(done.what);
  REQUIRE(done);
  REQUIRE(made.reports.size() == 5);
  return made;
}

std::string dumped(const ScoreReport& report) {
  const auto bytes = dump_report(report);
  REQUIRE(bytes);
  return *bytes;
}

ScoreReport parsed(const std::string& bytes) {
  auto report = parse_report(bytes, "r.h5");
  INFO((report ? "" : report.error().what));
  REQUIRE(report);
  return std::move(*report);
}

Status refusal(const std::string& bytes) {
  const auto report = parse_report(bytes, "r.h5");
  REQUIRE(!report);
  CHECK(report.error().code == Code::schema);
  CHECK(report.error().what.find("r.h5: ") == 0);
  return report.error();
}

TEST_CASE("a report reads back as it was written, shares included", "[cpu]") {
  SearchOptions options = some_options();
  options.objective = GENERATE(Objective::error, Objective::square);
  const Made made = searched(options);
  for (const ScoreReport& report : made.reports) {
    const std::string bytes = dumped(report);
    const ScoreReport back = parsed(bytes);
    CHECK(back.difference(report).empty());
    CHECK(back.warnings == report.warnings);
    CHECK(dumped(back) == bytes);
    REQUIRE(back.table.samples.size() == report.table.samples.size());
    for (size_t s = 0; s < back.table.samples.size(); ++s) {
      CHECK(back.table.samples[s].length == report.table.samples[s].length);
      for (size_t l = 0; l < 2; ++l)
        for (size_t h = 0; h < 4; ++h)
          for (size_t c = 0; c < report.space.candidates(); ++c) {
            const CandidateScore& a = back.table.samples[s].layers[l][h][c];
            const CandidateScore& b = report.table.samples[s].layers[l][h][c];
            bool same = a.share == b.share;
            for (const ScoreField& field : kScoreFields)
              same = same && a.*field.value == b.*field.value;
            CHECK(same);
          }
    }
  }
}

TEST_CASE("a config made from a report file is the search's, but for the certificate", "[cpu]") {
  const Made made = searched();
  const ScoreReport report = parsed(dumped(made.reports.back()));
  CHECK(report.complete());
  auto configured = configure(report, some_options());
  REQUIRE(configured);
  auto wanted = runtime::parse_config(made.config, "c.yaml");
  REQUIRE(wanted);
  CHECK(wanted->quality.held_out.has_value());
  wanted->quality.held_out.reset();
  CHECK(runtime::dump_config(configured->config) == runtime::dump_config(*wanted));
}

TEST_CASE("a search goes on from any of its reports to the same bytes", "[cpu]") {
  const Made whole = searched();
  for (const ScoreReport& report : whole.reports) {
    const ScoreReport earlier = parsed(dumped(report));
    const size_t scored = earlier.table.samples.size();
    Made made;
    REQUIRE(run(made, some_options(), &earlier));
    CHECK(made.config == whole.config);
    REQUIRE(made.reports.size() == 5 - scored);
    ScoreReport last = made.reports.back();
    last.table.forward_seconds = whole.reports.back().table.forward_seconds;
    last.table.score_seconds = whole.reports.back().table.score_seconds;
    last.table.peak_bytes = whole.reports.back().table.peak_bytes;
    CHECK(dumped(last) == dumped(whole.reports.back()));
  }
}

TEST_CASE("a search refuses the report of another, and says what differs", "[cpu]") {
  const Made made = searched();
  const auto difference = [&](const std::function<void(ScoreReport&)>& change) {
    ScoreReport other = made.reports[1];
    change(other);
    Made again;
    const Status refused = run(again, some_options(), &other);
    REQUIRE(!refused);
    CHECK(refused.code == Code::invalid_argument);
    CHECK(again.reports.empty());
    return refused.what;
  };
  CHECK(difference([](ScoreReport& r) {
          r.model.fingerprint = "sha256:0";
        }).find("report of another search: model: found") == 0);
  CHECK(difference([](ScoreReport& r) {
          r.options = "--lengths 320";
        }).find("options: found \"--lengths 320\", expected \"--lengths 320,512\"") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.backend = "x"; }).find("backend: found x") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.seed = 6; }).find("seed: found 6, expected 5") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.last = 64; }).find("last rows: found 64") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.space.families.pop_back(); }).find("candidates") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.samples[0].sha256[0] ^= 1; }).find("samples: found") !=
        std::string::npos);
  CHECK(difference([](ScoreReport& r) { r.held_out.clear(); }).find("held-out samples: found") !=
        std::string::npos);
  SearchOptions squares = some_options();
  squares.objective = Objective::square;
  Made again;
  CHECK(run(again, squares, &made.reports[1]).what.find("squared lost mass: found false") !=
        std::string::npos);
}

TEST_CASE("an error while a report is saved ends the search", "[cpu]") {
  const Made made = searched();
  const auto result =
      search(tiny_model(), made.calibration, {}, some_options(), {},
             {.scored = [](const ScoreReport&) -> Status { return fail(Code::io, "disk: full"); },
              .earlier = nullptr});
  REQUIRE(!result);
  CHECK(result.error().what == "disk: full");
}

TEST_CASE("a damaged report is told from a sound one, wherever it is damaged", "[cpu]") {
  const std::string bytes = dumped(searched().reports[1]);
  for (size_t at = 0; at < bytes.size(); at += at < 700 ? 1 : 997) {
    if (at >= 81 && at < 512) continue;  // filling of the user block
    std::string broken = bytes;
    broken[at] = static_cast<char>(broken[at] ^ 0x10);
    CHECK(refusal(broken).what.find("expected a score report") != std::string::npos);
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{511}, size_t{512}, size_t{513},
                            bytes.size() / 2, bytes.size() - 1})
    CHECK(refusal(bytes.substr(0, size)).what.find("expected a score report") != std::string::npos);
  CHECK(refusal(bytes + "x").what.find("cut short or changed") != std::string::npos);
  CHECK(refusal("schema: mi.head_config\n" + std::string(600, ' ')).what ==
        "r.h5: found another kind of file, expected a score report (written by mi-search)");
}

// A report whose digest is right and whose content is what the test says.
struct Forged {
  std::string schema = "mi.report";
  int64_t version = 1;
  std::string about, candidates;
  std::vector<uint64_t> extent = {2, 2, 4, 1};
  float value = 0.5f;
  std::string left_out;

  explicit Forged(const ScoreReport& report) {
    const std::string image = dumped(report).substr(512);
    const H5Reader reader(image);
    about = reader.text("about");
    candidates = reader.text("candidates");
    extent[3] = report.space.candidates();
  }
  void replace(const std::string& from, const std::string& to) {
    REQUIRE(about.find(from) != std::string::npos);
    about.replace(about.find(from), from.size(), to);
  }
  [[nodiscard]] std::string bytes() const {
    H5Writer writer;
    writer.attribute("schema", schema);
    writer.attribute("schema_version", version);
    writer.text("about", about);
    writer.text("candidates", candidates);
    writer.group("scores");
    uint64_t count = 1;
    for (const uint64_t size : extent) count *= size;
    for (const ScoreField& field : kScoreFields)
      if (field.name != left_out)
        writer.floats("scores/" + std::string(field.name), extent, extent,
                      std::vector<float>(count, value));
    const std::string image = writer.bytes();
    std::string out = "mi.report sha256:" + *sha256_hex(image);
    out.resize(512, '\n');
    return out + image;
  }
};

TEST_CASE("every fault of a report's content is one error that names it", "[cpu]") {
  const Forged sound(searched().reports[1]);
  CHECK(parse_report(sound.bytes(), "r.h5"));
  const auto error = [&](const std::function<void(Forged&)>& change) {
    Forged forged = sound;
    change(forged);
    const std::string what = refusal(forged.bytes()).what;
    INFO(what);
    return what;
  };
  const auto names = [&](const std::function<void(Forged&)>& change, const std::string& text) {
    const std::string what = error(change);
    INFO(what);
    CHECK(what.find(text) != std::string::npos);
  };
  names([](Forged& f) { f.schema = "mi.capture"; },
        "found schema mi.capture version 1, expected mi.report version 1");
  names([](Forged& f) { f.version = 2; }, "found schema mi.report version 2");
  names([](Forged& f) { f.left_out = "error"; }, "scores/error");
  names([](Forged& f) { f.value = std::nanf(""); },
        "scores/recall: found nan, expected numbers from 0 up");
  names([](Forged& f) { f.value = -1; }, "found -1, expected numbers from 0 up");
  names([](Forged& f) { f.extent[2] = 5; }, "scores/recall: found [2, 2, 5, ");
  names([](Forged& f) { f.extent.pop_back(); }, "scores/recall: found [2, 2, 4], expected [2");
  names([](Forged& f) { f.about = "{"; }, "about: not JSON");
  names([](Forged& f) { f.about = "[]"; }, "about: got [], expected an object");
  names([](Forged& f) { f.replace("\"scored\": 2", "\"scored\": 5"); }, "scored");
  names([](Forged& f) { f.replace("\"scored\": 2", "\"scored\": -1"); }, "scored");
  names([](Forged& f) { f.replace("\"heads\": 4", "\"heads\": \"four\""); }, "heads");
  names([](Forged& f) { f.replace("\"heads\": 4", "\"heads\": 1048576"); }, "scores in ");
  names([](Forged& f) { f.replace("\"heads\": 4", "\"heads\": 40"); },
        "scores/recall: found [2, 2, 4, ");
  names([](Forged& f) { f.replace("\"tokens\": 320", "\"tokens\": 0"); }, "held_out[0]");
  names([](Forged& f) { f.replace("\"seed\": 5", "\"seed\": 0.5"); }, "seed");
  names([](Forged& f) { f.candidates = "schema: mi.candidates\n"; }, "candidates");
}

TEST_CASE("a report keeps its pictures, and refuses wrong ones", "[cpu]") {
  const ScoreReport report = searched().reports.back();
  REQUIRE(report.pictures);
  const ScoreReport back = parsed(dumped(report));
  REQUIRE(back.pictures);
  CHECK(back.pictures->planes == report.pictures->planes);
  CHECK(back.pictures->config == report.pictures->config);
  CHECK(back.pictures->source == report.held_out[0].source);
  const auto refused = [&](const std::function<void(HeadPictures&)>& change) {
    ScoreReport wrong = report;
    change(*wrong.pictures);
    return refusal(dumped(wrong)).what;
  };
  CHECK(refused([](HeadPictures& p) {
          p.planes[HeadPictures::lost][3] = std::nanf("");
        }).find("pictures/lost: found nan, expected numbers from 0 to 1") != std::string::npos);
  CHECK(refused([](HeadPictures& p) {
          p.planes[HeadPictures::mass][0] = 2;
        }).find("pictures/mass: found 2") != std::string::npos);
  CHECK(refused([](HeadPictures& p) { p.tokens = 0; }).find("tokens") != std::string::npos);
  CHECK(refused([](HeadPictures& p) {
          p.config.model.name = "other";
        }).find("pictures/config: found another model") != std::string::npos);
  CHECK(refused([](HeadPictures& p) {
          p.cells = 65;
          for (auto& plane : p.planes) plane.resize(8 * 65 * 65);
        }).find("cells") != std::string::npos);
}

TEST_CASE("of another kind of file, however large, only the first bytes are read", "[cpu]") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "weights.bin";
  std::ofstream(path) << "weights";
  std::filesystem::resize_file(path, uint64_t{9} << 30);  // a hole: it takes no space
  const auto report = load_report(path);
  REQUIRE(!report);
  CHECK(report.error().what.find("found another kind of file") != std::string::npos);
}

TEST_CASE("the file is HDF5 to everyone else", "[cpu]") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "r.h5";
  const ScoreReport report = searched().reports.back();
  REQUIRE(save_report(report, path));
  const test::H5File file(path.string());
  const std::vector<float> recall = file.floats("/scores/recall");
  REQUIRE(recall.size() == 4 * 2 * 4 * report.space.candidates());
  CHECK(static_cast<double>(recall[0]) == report.table.samples[0].layers[0][0][0].recall);
  CHECK(recall.back() == 1);
  CHECK(file.attribute("schema_version") == 1);
  const auto back = load_report(path);
  REQUIRE(back);
  CHECK(back->difference(report).empty());
  CHECK(load_report(folder.path() / "none.h5").error().code == Code::io);
}

}  // namespace
}  // namespace mi::search
