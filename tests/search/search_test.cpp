// The main job on a tiny model with random weights: samples in, head-config out.
#include "libsearch/search/search.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <random>

#include "libsearch/model/linear.h"
#include "libsearch/search/planned_attention.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

std::vector<Sample> make_samples(std::initializer_list<int64_t> lengths, uint64_t seed) {
  std::vector<Sample> samples;
  std::mt19937_64 engine(seed);
  for (int64_t length : lengths) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < length; ++i) {
      // Repetitions, so that attention has something to find.
      const bool copy = i >= 40 && engine() % 4 != 0;
      ids.push_back(
          copy ? ids[static_cast<size_t>(i - 37)]
               : static_cast<int32_t>(engine() % static_cast<uint64_t>(tiny_model().spec().vocab)));
    }
    auto sample = sample_from_ids(ids, 0, length, "test");
    REQUIRE(sample);
    samples.push_back(std::move(*sample));
  }
  return samples;
}

SearchOptions options_with(std::optional<double> limit, int threads = 1) {
  SearchOptions options;
  options.limit = limit;
  options.compute.backend = &(*kernels::choose_backend())->f32();
  options.compute.threads = threads;
  options.compute.last = 16;
  options.description = "--budget test";
  options.seed = 5;
  return options;
}

constexpr std::initializer_list<int64_t> kLengths = {832, 1024, 832, 900};

TEST_CASE("a search gives the same bytes for any number of threads and every run", "[cpu]") {
  const auto calibration = make_samples(kLengths, 1);
  const auto held_out = make_samples({832, 1024}, 2);
  const auto element = GENERATE(runtime::Element::f32, runtime::Element::bf16);
  const Status has_bf16 = bf16_linear_available();
  if (element == runtime::Element::bf16 && !has_bf16) MI_SKIP(has_bf16.what);
  std::vector<std::string> texts;
  for (int threads : {1, 2, 1, 2}) {
    SearchOptions options = options_with(0.5, threads);
    options.compute.element = element;
    const auto result = search(tiny_model(), calibration, held_out, options, {});
    INFO((result ? "" : result.error().what));
    REQUIRE(result);
    texts.push_back(runtime::dump_config(result->config));
  }
  CHECK(texts[0].find("schema: mi.head_config") != std::string::npos);
  for (const std::string& text : texts) CHECK(text == texts[0]);
  // And what was written reads back as what was found.
  const auto back = runtime::parse_config(texts[0], "test.yaml");
  INFO((back ? "" : back.error().what));
  REQUIRE(back);
  CHECK(runtime::dump_config(*back) == texts[0]);
}

// Runs the config's plan on every layer of a sample.
struct Execution {
  double share = 0;                         // mean over heads and layers
  std::vector<std::vector<double>> recall;  // [layer][head]
  int capped = 0;
};

Execution execute(const runtime::HeadConfig& config, const Sample& sample) {
  const ModelSpec& spec = tiny_model().spec();
  const auto options = options_with(1.0).compute;
  auto dense = PlannedAttention::make(dense_config(spec), sample.length(), options);
  auto sparse = PlannedAttention::make(config, sample.length(), options);
  REQUIRE(dense);
  REQUIRE(sparse);
  Execution execution;
  Tensor<float, 3> unused({spec.heads, sample.length(), spec.head_dim});
  const auto hidden = tiny_model().forward(
      sample.ids,
      [&](const LayerQkv& layer, TensorView<float, 3> o) -> Status {
        MI_CHECK(sparse->run(layer, unused.view()));
        MI_CHECK(dense->run(layer, o));  // the stream stays that of the dense pass
        auto& heads = execution.recall.emplace_back();
        for (int h = 0; h < spec.heads; ++h) {
          double recall = 0;
          for (int64_t i = 0; i < sample.length(); ++i)
            recall += std::exp(static_cast<double>(sparse->lse()[h][i]) -
                               static_cast<double>(dense->lse()[h][i]));
          heads.push_back(recall / static_cast<double>(sample.length()));
          const auto& stats = sparse->stats()[static_cast<size_t>(h)];
          execution.share += stats.share / (spec.heads * spec.layers);
          execution.capped += stats.capped ? 1 : 0;
        }
        return {};
      },
      {});
  REQUIRE(hidden);
  return execution;
}

TEST_CASE("scores of a bf16 pass are those of the f32 pass but for its rounding", "[cpu]") {
  const Status has_bf16 = bf16_linear_available();
  if (!has_bf16) MI_SKIP(has_bf16.what);
  const auto samples = make_samples({900}, 8);
  const auto space = default_candidates();
  auto compute = options_with(1.0).compute;
  ScoreTable wide, narrow;
  REQUIRE(score_samples(tiny_model(), samples, space, compute, {}, wide));
  compute.element = runtime::Element::bf16;
  compute.backend = *kernels::choose_backend();
  REQUIRE(score_samples(tiny_model(), samples, space, compute, {}, narrow));
  double difference = 0;
  double count = 0;
  for (size_t l = 0; l < 2; ++l)
    for (size_t h = 0; h < 4; ++h)
      for (size_t c = 0; c < space.candidates(); ++c, ++count)
        difference += std::abs(narrow.samples[0].layers[l][h][c].recall -
                               wide.samples[0].layers[l][h][c].recall);
  // Scores of order 1 off by 2^-9 move probabilities by as much, and a key across a threshold
  // takes less than one row's part of a recall with it.
  CHECK(difference > 0);
  CHECK(difference / count < 0x1p-9);
}

TEST_CASE("achieved cost keeps the limit on every sample, and runs as predicted", "[cpu]") {
  const auto calibration = make_samples(kLengths, 3);
  for (const Objective objective : {Objective::error, Objective::square, Objective::mass}) {
    for (const double limit : {0.5, 0.65, 1.0}) {
      if (objective != Objective::error && limit != 0.5) continue;
      SearchOptions options = options_with(limit);
      options.objective = objective;
      const auto result = search(tiny_model(), calibration, {}, options, {});
      INFO("objective " << to_string(objective) << " limit " << limit << " "
                        << (result ? "" : result.error().what));
      REQUIRE(result);
      const runtime::HeadConfig& config = result->config;
      CHECK(config.calibration.lengths == std::vector<int64_t>{832, 900, 1024});
      CHECK(config.limit.share == limit);
      REQUIRE(config.limit.achieved.size() == 3);
      for (const auto& [length, share] : config.limit.achieved) CHECK(share <= limit + 1e-6);
      std::vector<std::vector<double>> mean(2, std::vector<double>(4, 0));
      for (const Sample& sample : calibration) {
        const Execution run = execute(config, sample);
        CHECK(run.share <= limit + 1e-9);
        CHECK(run.share <= config.limit.achieved.at(sample.length()) + 1e-6);
        CHECK(run.capped == 0);
        for (size_t l = 0; l < 2; ++l)
          for (size_t h = 0; h < 4; ++h)
            mean[l][h] += run.recall[l][h] / static_cast<double>(calibration.size());
      }
      for (size_t l = 0; l < 2; ++l)
        for (size_t h = 0; h < 4; ++h) {
          INFO("layer " << l << " head " << h);
          CHECK(config.layers[l][h].recall == Approx(mean[l][h]).margin(1.5e-4).epsilon(0));
        }
    }
  }
}

TEST_CASE("share caps hold the limit on samples that the search has not seen", "[cpu]") {
  const auto calibration = make_samples({900}, 4);
  const auto result = search(tiny_model(), calibration, {}, options_with(0.45), {});
  REQUIRE(result);
  // Noise, unlike the calibration sample.
  std::mt19937_64 engine(6);
  std::vector<int32_t> ids;
  for (int i = 0; i < 900; ++i) ids.push_back(static_cast<int32_t>(engine() % 320));
  const auto sample = sample_from_ids(ids, 0, 900, "noise");
  REQUIRE(sample);
  CHECK(execute(result->config, *sample).share <= 0.45 + 1e-5);
}

// A device on which time is work: every tile costs the same, and an estimate its operations. Those
// of block_sparse are no sum of keys and tiles, so that the space goes without.
constexpr double kTileMs = 0.25;

SearchOptions on_exact_device(SearchOptions options) {
  const ModelSpec& spec = tiny_model().spec();
  std::erase_if(options.space.families, [](const Family& family) {
    return family.params.pattern == runtime::Pattern::block_sparse;
  });
  HeadDimTimes times;
  times.head_dim = spec.head_dim;
  times.dense_below = 320;
  times.dense_tile = kTileMs;
  // 64 queries against a key, or one against 64, beside a tile's 4 * 64 * 64 * dim operations.
  const double per_64 = kTileMs * 2 * 64 / (4 * 64 * 64);
  for (const auto& family : options.space.families) {
    PatternTime& time = times.patterns[timed_pattern(family.params)];
    if (family.params.pattern == runtime::Pattern::a_shape) continue;
    if (family.params.pattern != runtime::Pattern::stripe) time.keys = per_64;
    if (family.params.pattern != runtime::Pattern::vertical_slash) time.rows = per_64;
  }
  options.device = DeviceProfile{
      .cpu = "test", .backend = "test", .element = "f32", .threads = 1, .head_dims = {times}};
  return options;
}

double dense_prefill_ms(int64_t tokens) {
  const ModelSpec& spec = tiny_model().spec();
  return kTileMs * static_cast<double>(runtime::dense_tiles({tokens, tokens, spec.head_dim})) *
         spec.layers * spec.heads;
}

TEST_CASE("where time is work a budget in milliseconds gives what its percentage gives", "[cpu]") {
  const auto calibration = make_samples({832, 832}, 13);
  for (const double limit : {0.5, 0.7}) {
    SearchOptions options = on_exact_device(options_with(limit));
    const auto by_share = search(tiny_model(), calibration, {}, options, {});
    options.limit.reset();
    options.limit_ms = limit * dense_prefill_ms(832);
    const auto by_time = search(tiny_model(), calibration, {}, options, {});
    INFO((by_time ? "" : by_time.error().what));
    REQUIRE(by_share);
    REQUIRE(by_time);
    // The limit of the file is a share: what the time lets the dearest sample execute.
    runtime::HeadConfig config = by_time->config;
    CHECK(config.limit.share <= limit);
    CHECK(config.limit.share >= config.limit.achieved.at(832));
    config.limit.share = limit;
    CHECK(runtime::dump_config(config) == runtime::dump_config(by_share->config));
    CHECK(config.kernel.dense_below == 320);
    for (const auto* result : {&*by_share, &*by_time}) {
      REQUIRE(result->predicted.size() == 1);
      CHECK(result->predicted[0].length == 832);
      CHECK(result->predicted[0].dense_ms == Approx(dense_prefill_ms(832)));
      CHECK(result->predicted[0].ms ==
            Approx(result->config.limit.achieved.at(832) * dense_prefill_ms(832)).epsilon(1e-5));
    }
  }
}

TEST_CASE("a budget in milliseconds holds at every length, and says what would be enough",
          "[cpu]") {
  const auto calibration = make_samples(kLengths, 14);
  SearchOptions options = on_exact_device(options_with(std::nullopt));
  for (HeadDimTimes& times : options.device->head_dims) {
    times.call = 3;
    for (PatternTime& time : times.patterns) time.tile = 1.5;
  }
  for (const auto mode : {AllocationMode::global, AllocationMode::per_head}) {
    options.allocation = mode;
    options.limit_ms = 0.75 * dense_prefill_ms(1024);
    const auto result = search(tiny_model(), calibration, {}, options, {});
    INFO((result ? "" : result.error().what));
    REQUIRE(result);
    REQUIRE(result->predicted.size() == 3);
    for (const PredictedTime& at : result->predicted)
      CHECK(at.ms <= *options.limit_ms * (1 + 1e-9));
    if (mode == AllocationMode::global) CHECK(result->predicted[2].ms > 0.8 * *options.limit_ms);
    for (const auto& layer : result->config.layers)
      for (const auto& head : layer)
        for (const auto& [length, share] : head.share) CHECK(share <= 1);
  }
  options.limit_ms = 0.1 * dense_prefill_ms(1024);
  CHECK(!check_feasible(tiny_model().spec(), options, calibration));
  options.allocation = AllocationMode::global;
  const auto refused = search(tiny_model(), calibration, {}, options, {});
  REQUIRE(!refused);
  const std::string words = "smallest feasible budget is ";
  const size_t at = refused.error().what.find(words);
  INFO(refused.error().what);
  REQUIRE(at != std::string::npos);
  options.limit_ms = parse_time(refused.error().what.substr(at + words.size())).value();
  REQUIRE(options.limit_ms);
  CHECK(check_feasible(tiny_model().spec(), options, calibration));
  CHECK(search(tiny_model(), calibration, {}, options, {}));
}

TEST_CASE("a time needs a profile that has the model's head dim", "[cpu]") {
  const auto calibration = make_samples({700}, 9);
  SearchOptions options = options_with(std::nullopt);
  options.limit_ms = 100;
  const auto without = search(tiny_model(), calibration, {}, options, {});
  REQUIRE(!without);
  CHECK(without.error().what.find("profile") != std::string::npos);
  options = on_exact_device(options);
  options.device->head_dims[0].head_dim += 1;
  const Status refused = check_feasible(tiny_model().spec(), options, calibration);
  CHECK(refused.code == Code::invalid_argument);
  CHECK(refused.what.find("it has no head_dim") != std::string::npos);
}

TEST_CASE("dense_below is the device's or our own, and never above what was calibrated", "[cpu]") {
  const auto below = [](int64_t length, SearchOptions options) {
    const auto result = search(tiny_model(), make_samples({length}, 15), {}, options, {});
    REQUIRE(result);
    return result->config.kernel.dense_below;
  };
  CHECK(below(832, options_with(0.9)) == 640);
  CHECK(below(448, options_with(0.9)) == 448);
  CHECK(below(832, on_exact_device(options_with(0.9))) == 320);
  CHECK(below(256, on_exact_device(options_with(0.95))) == 256);
}

TEST_CASE("per-head allocation keeps the limit in every head", "[cpu]") {
  const auto calibration = make_samples(kLengths, 7);
  SearchOptions options = options_with(0.6);
  options.allocation = AllocationMode::per_head;
  const auto result = search(tiny_model(), calibration, {}, options, {});
  INFO((result ? "" : result.error().what));
  REQUIRE(result);
  CHECK(result->config.limit.allocation == "per-head");
  for (const auto& layer : result->config.layers)
    for (const auto& head : layer) {
      CHECK(head.pattern != runtime::Pattern::dense);
      for (const auto& [length, share] : head.share) CHECK(share <= 0.6 + 1e-6);
    }
}

TEST_CASE("min-recall allocation reaches the recall or says what it would cost", "[cpu]") {
  const auto calibration = make_samples({600, 600}, 8);
  SearchOptions options = options_with(std::nullopt);
  double previous = 0;
  for (const double wanted : {0.5, 0.8, 0.95, 1.0}) {
    options.min_recall = wanted;
    const auto result = search(tiny_model(), calibration, {}, options, {});
    INFO("min recall " << wanted << " " << (result ? "" : result.error().what));
    REQUIRE(result);
    CHECK(result->config.limit.allocation == "min-recall");
    const double cost = result->config.limit.achieved.at(600);
    CHECK(cost >= previous);
    CHECK(cost <= 1);
    previous = cost;
    for (const auto& layer : result->config.layers)
      for (const auto& head : layer) CHECK(head.recall >= wanted - 1e-3);
  }
  options.min_recall = 0.99;
  options.limit = 0.3;
  const auto refused = search(tiny_model(), calibration, {}, options, {});
  REQUIRE(!refused);
  CHECK(refused.error().code == Code::invalid_argument);
  CHECK(refused.error().what.find("smallest budget") != std::string::npos);
}

TEST_CASE("a limit that cannot be met names the smallest that can", "[cpu]") {
  const auto calibration = make_samples({700}, 9);
  const auto refused = search(tiny_model(), calibration, {}, options_with(0.05), {});
  REQUIRE(!refused);
  CHECK(refused.error().code == Code::invalid_argument);
  const std::string& what = refused.error().what;
  const std::string words = "smallest feasible budget is ";
  const size_t at = what.find(words);
  REQUIRE(at != std::string::npos);
  const double smallest = std::stod(what.substr(at + words.size())) / 100;
  INFO(what);
  const auto enough = search(tiny_model(), calibration, {}, options_with(smallest), {});
  INFO((enough ? "" : enough.error().what));
  CHECK(enough);
  CHECK(!search(tiny_model(), calibration, {}, options_with(smallest - 2e-5), {}));
  CHECK(!search(tiny_model(), calibration, {}, options_with(std::nullopt), {}));
}

TEST_CASE("a limit below any prompt's cost is refused before the search", "[cpu]") {
  const auto calibration = make_samples({700}, 9);
  const ModelSpec& spec = tiny_model().spec();
  CHECK(check_feasible(spec, options_with(0.9), calibration));
  CHECK(check_feasible(spec, options_with(std::nullopt), calibration));
  const Status refused = check_feasible(spec, options_with(0.05), calibration);
  CHECK(refused.code == Code::invalid_argument);
  // What it names is a lower bound: no search at this limit or below succeeds.
  const std::string words = "smallest feasible budget is at least ";
  const size_t at = refused.what.find(words);
  REQUIRE(at != std::string::npos);
  const double least = std::stod(refused.what.substr(at + words.size())) / 100;
  CHECK(check_feasible(spec, options_with(least), calibration));
  CHECK(!check_feasible(spec, options_with(least - 2e-5), calibration));
  CHECK(!search(tiny_model(), calibration, {}, options_with(least - 2e-5), {}));
}

TEST_CASE("a config of another model is refused by name", "[cpu]") {
  const ModelSpec& spec = tiny_model().spec();
  runtime::HeadConfig config = dense_config(spec);
  CHECK(check_config_model(config, spec, "c.yaml"));
  config.model.fingerprint = "sha256:0";
  CHECK(check_config_model(config, spec, "c.yaml").what.find("c.yaml: made for another model") ==
        0);
  config = dense_config(spec);
  config.model.layers += 1;
  CHECK(check_config_model(config, spec, "c.yaml").code == Code::schema);
}

TEST_CASE("held-out samples are certified", "[cpu]") {
  const auto calibration = make_samples({832}, 10);
  const auto held_out = make_samples({832, 832}, 11);
  // Everything dense: the certificate of no change.
  const auto dense = search(tiny_model(), calibration, held_out, options_with(1.0), {});
  REQUIRE(dense);
  REQUIRE(dense->verdicts.size() == 2);
  const auto sparse = search(tiny_model(), calibration, held_out, options_with(0.45), {});
  REQUIRE(sparse);
  REQUIRE(sparse->config.quality.held_out);
  const runtime::HeldOut& certificate = *sparse->config.quality.held_out;
  CHECK(certificate.recall_mean > 0.3);
  CHECK(certificate.recall_mean <= 1);
  CHECK(certificate.logit_kl >= 0);
  CHECK(certificate.output_error >= 0);
  CHECK(certificate.top1_agreement <= 1);
  CHECK(certificate.achieved.at(832) <= 0.45 + 1e-5);
  CHECK(dense->config.quality.held_out->logit_kl <= certificate.logit_kl + 1e-9);
  CHECK(sparse->config.calibration.samples.size() == 1);
  CHECK(sparse->config.calibration.held_out.size() == 2);
}

TEST_CASE("warnings go into the config, and strict searches end with them", "[cpu]") {
  auto samples = make_samples({300}, 8);
  samples.push_back(samples.front());
  auto options = options_with(0.9);
  const auto found = search(tiny_model(), samples, {}, options, {});
  REQUIRE(found);
  REQUIRE(found->config.warnings.size() >= 3);  // twice the same, short, not certified
  CHECK(found->config.warnings[0].find("has the same tokens as") != std::string::npos);
  const auto back = runtime::parse_config(runtime::dump_config(found->config), "test.yaml");
  REQUIRE(back);
  CHECK(back->warnings == found->config.warnings);
  options.strict = true;
  const auto refused = search(tiny_model(), samples, {}, options, {});
  REQUIRE(!refused);
  CHECK(refused.error().what.find("strict: found") == 0);
}

TEST_CASE("progress rises to the end of every stage", "[cpu]") {
  const auto calibration = make_samples({700, 450}, 12);
  std::string stage;
  double last = 0;
  std::vector<std::string> stages;
  const auto result = search(tiny_model(), calibration, calibration, options_with(0.9),
                             [&](std::string_view name, double fraction) {
                               if (name != stage) {
                                 if (!stages.empty()) CHECK(last == Approx(1));
                                 stage = name;
                                 stages.emplace_back(name);
                                 last = 0;
                               }
                               CHECK(fraction >= last - 1e-12);
                               CHECK(fraction <= 1 + 1e-12);
                               last = fraction;
                             });
  REQUIRE(result);
  CHECK(stages == std::vector<std::string>{"search", "certify"});
  CHECK(last == Approx(1));
}

TEST_CASE("a budget is a share or a percentage, and everything else is an error", "[cpu]") {
  const auto value = [](std::string_view text) { return parse_budget(text).value(); };
  CHECK(value("15%") == Approx(0.15));
  CHECK(value("15 %") == Approx(0.15));
  CHECK(value(" 15% ") == Approx(0.15));
  CHECK(value("0.15") == Approx(0.15));
  CHECK(value("1e-1") == Approx(0.1));
  CHECK(value("100%") == 1);
  CHECK(value("1") == 1);
  CHECK(value("0.5%") == Approx(0.005));
  const std::pair<const char*, const char*> wrong[] = {
      {"", "not a number"},     {"%", "not a number"},          {"abc", "not a number"},
      {"15%%", "not a number"}, {"15 percent", "not a number"}, {"0,15", "not a number"},
      {"nan", "not a number"},  {"inf", "not a number"},        {"1e999", "not a number"},
      {"0x1", "not a number"},  {"0", "not above 0"},           {"0%", "not above 0"},
      {"-5%", "not above 0"},   {"-0.1", "not above 0"},        {"100.1%", "above 100%"},
      {"15", "percentage"},     {"1.01", "percentage"},         {"1 5%", "not a number"},
      {"120ms", "not a number"}};
  for (const auto& [text, why] : wrong) {
    const auto refused = parse_budget(text);
    INFO("\"" << text << "\" " << (refused ? "" : refused.error().what));
    REQUIRE(!refused);
    CHECK(refused.error().code == Code::invalid_argument);
    CHECK(refused.error().what.find(why) != std::string::npos);
    CHECK(refused.error().what.find("\"" + std::string(text) + "\"") != std::string::npos);
  }
}

}  // namespace
}  // namespace mi::search
