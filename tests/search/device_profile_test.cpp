// Device profiles: the file, and costs turned into times.
#include "libsearch/search/device_profile.h"

#include <catch2/catch.hpp>

#include <filesystem>

#include "libsearch/search/search.h"
#include "tests/support.h"
#include "tests/temporary_folder.h"

namespace mi::search {
namespace {

DeviceProfile example() {
  DeviceProfile profile{"Some: CPU", "cpu_amx", "bf16", 2, {}};
  for (const int dim : {64, 128}) {
    HeadDimTimes& times = profile.head_dims.emplace_back();
    times.head_dim = dim;
    times.dense_below = 10 * dim;
    times.call = 0.05;
    times.dense_tile = 0.00141;
    for (size_t i = 0; i < times.patterns.size(); ++i)
      times.patterns[i] = {1 + 0.1 * static_cast<double>(i), 1e-5, 0};
  }
  return profile;
}

TEST_CASE("a device profile reads back as it was, and its text as the same bytes") {
  const std::string text = dump_profile(example());
  const auto back = parse_profile(text, "d.yaml");
  INFO((back ? text : back.error().what));
  REQUIRE(back);
  CHECK(*back == example());
  CHECK(dump_profile(*back) == text);
  const test::TemporaryFolder folder;
  REQUIRE(save_profile(example(), folder.path() / "d.yaml"));
  CHECK(*load_profile(folder.path() / "d.yaml") == example());
  // What could not be read is not written.
  CHECK(!save_profile({}, folder.path() / "empty.yaml"));
  CHECK(!std::filesystem::exists(folder.path() / "empty.yaml"));
  const auto absent = load_profile(folder.path() / "absent.yaml");
  REQUIRE(!absent);
  CHECK(absent.error().what.find("absent.yaml") != std::string::npos);
}

TEST_CASE("what is wrong with a device profile is said with its place") {
  struct Case {
    std::string from, to, error;
  };
  const auto item = GENERATE(values<Case>({
      {"schema: mi.device_profile", "schema: mi.head_config",
       "d.yaml:1:9: found 'mi.head_config', expected schema mi.device_profile"},
      {"schema_version: 1", "schema_version: 2", "d.yaml:2:17: found schema_version 2"},
      {"device: {cpu", "device: {gpu: x, cpu", "d.yaml:3:10: found unknown key 'gpu'"},
      {"element: bf16", "element: f16", "found 'f16', expected one of bf16, f32"},
      {"threads: 2", "threads: two", "found 'two', expected an integer from 1"},
      {"threads: 2", "threads: 0", "found '0', expected an integer from 1"},
      {"- head_dim: 128", "- head_dim: 64", "found head_dim 64 again, expected it once"},
      {"dense_below: 640", "dense_below: -1", "d.yaml:6:16: found '-1', expected an integer"},
      {"call: 0.05", "call: -1", "d.yaml:7:17: found '-1', expected a number in [0, 1"},
      {"call: 0.05, tile: 0.00141", "call: 0.05, tile: 0", "found '0', expected a number in (0, 1"},
      {"call: 0.05, tile: 0.00141", "call: 0.05, tile: .nan", "found '.nan', expected a number"},
      {"call: 0.05, tile: 0.00141", "call: 0.05, tile: 1e7", "found '1e7', expected a number"},
      {"call: 0.05, ", "", "found no key 'call'"},
      {"    a_shape: {tile: 1,", "    a_shape: {tile: 1, tiles: 3,", "found unknown key 'tiles'"},
      {"    a_shape:", "    window:", "d.yaml:9:5: found unknown key 'window', expected one of a_"},
      {"    stripe:", "    a_shape:", "found key 'a_shape' again"},
      {"    stripe: {tile: 1.5, keys: 1e-05, rows: 0}", "    stripe: 1.5",
       "found '1.5', expected a map"},
  }));
  std::string text = dump_profile(example());
  const size_t at = text.find(item.from);
  INFO(text << item.from);
  REQUIRE(at != std::string::npos);
  text.replace(at, item.from.size(), item.to);
  const auto refused = parse_profile(text, "d.yaml");
  REQUIRE(!refused);
  INFO(refused.error().what);
  CHECK(refused.error().code == Code::schema);
  CHECK(refused.error().what.find(item.error) != std::string::npos);
}

TEST_CASE("a head's time is its tiles and its estimate, each at its price") {
  HeadDimTimes times;
  times.head_dim = 64;
  times.dense_tile = 0.5;
  runtime::EstimatorParams params;
  params.pattern = runtime::Pattern::block_sparse;
  times.patterns[timed_pattern(params)] = {2, 0.001, 0.01};
  const runtime::CallShape call{256, 256, 64};  // dense: 1 + 2 + 3 + 4 tiles
  CHECK(times.dense_ms(call) == 5);
  CHECK(times.head_ms(call, params, 6) == Approx(6 * 2 * 0.5 + 256 * 0.001 + 10 * 0.01));
  params.estimate = runtime::BlockEstimate::antidiagonal;
  for (const int stride : {8, 16}) {
    params.stride = stride;
    CHECK(kTimedPatterns[timed_pattern(params)] == "antidiagonal_" + std::to_string(stride));
    CHECK(times.head_ms(call, params, 6) == 3);
  }
}

TEST_CASE("a time is milliseconds or seconds, and everything else is an error") {
  const auto value = [](std::string_view text) { return parse_time(text).value(); };
  CHECK(*value("120ms") == Approx(120));
  CHECK(*value(" 120 ms ") == Approx(120));
  CHECK(*value("0.12s") == Approx(120));
  CHECK(*value("1e-1 s") == Approx(100));
  for (const char* text : {"15%", "0.15", "", "many", "12m"}) CHECK(!value(text));
  for (const char* text : {"ms", "s", "0ms", "-1s", "nanms", "infs", "1e999ms", "1 0ms", "12mms"}) {
    const auto refused = parse_time(text);
    INFO(text);
    REQUIRE(!refused);
    CHECK(refused.error().code == Code::invalid_argument);
    CHECK(refused.error().what.find("\"" + std::string(text) + "\"") != std::string::npos);
  }
}

}  // namespace
}  // namespace mi::search
