// The configs of this repository are what its score report gives.
#include <catch2/catch.hpp>

#include <filesystem>

#include "libruntime/yaml_reader.h"
#include "libsearch/report/report_file.h"
#include "libsearch/search/search.h"
#include "tests/support.h"

namespace mi::search {
namespace {

const std::filesystem::path kConfigs = MI_SOURCE_DIR "/configs";

TEST_CASE("the shipped configs come from the shipped score report", "[cpu]") {
  const auto report = load_report(kConfigs / "smollm2-135m-instruct.report.h5");
  INFO((report ? "" : report.error().what));
  REQUIRE(report);
  CHECK(report->complete());
  struct Shipped {
    const char* name;
    double limit;
    const char* options;
    std::vector<int64_t> lengths;
  };
  const Shipped all[] = {{"5", 0.05, "--budget 5% --lengths 8192", {8192}},
                         {"10", 0.1, "--budget 10%", {4096, 8192}},
                         {"15", 0.15, "--budget 15%", {4096, 8192}},
                         {"25", 0.25, "--budget 25%", {4096, 8192}}};
  for (const Shipped& shipped : all) {
    const auto path = kConfigs / ("smollm2-135m-instruct-" + std::string(shipped.name) + ".yaml");
    INFO(path);
    auto config = runtime::load_config(path);
    REQUIRE(config);
    REQUIRE(config->quality.held_out.has_value());  // a certificate, which takes the model
    config->quality.held_out.reset();
    ScoreReport own = *report;
    REQUIRE(own.keep_lengths(shipped.lengths));
    SearchOptions options;
    options.limit = shipped.limit;
    options.description = shipped.options;
    const auto made = configure(own, options);
    REQUIRE(made);
    CHECK(runtime::dump_config(made->config) == runtime::dump_config(*config));
  }
}

}  // namespace
}  // namespace mi::search
