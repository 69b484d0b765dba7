// Dense against sparse on the tiny model with random weights: whose answers are never right, but
// whose numbers are as good as any.
#include "libsearch/eval/evaluate.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "libsearch/eval/report.h"
#include "libsearch/eval/summary.h"
#include "libsearch/model/linear.h"
#include "libsearch/search/planned_attention.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

constexpr int64_t kLength = 832;

SampleSpec texts() {
  SampleSpec spec;
  spec.kind = "text";
  spec.texts = {std::filesystem::path(MI_SOURCE_DIR) / "calib_data/texts/text-06.txt"};
  return spec;
}

runtime::HeadConfig windows_config() {
  runtime::HeadConfig config = dense_config(tiny_model().spec());
  for (auto& layer : config.layers)
    for (runtime::HeadEntry& head : layer) {
      head.pattern = runtime::Pattern::a_shape;
      head.sink = 4;
      head.local = {{0, 64}};
    }
  return config;
}

EvalOptions options_of(runtime::Element element) {
  EvalOptions options;
  const kernels::Backend* backend = *kernels::choose_backend();
  options.compute.backend = element == runtime::Element::bf16 ? backend : &backend->f32();
  options.compute.threads = 2;
  options.compute.element = element;
  return options;
}

std::vector<Cell> cells_of(int64_t count) {
  TaskOptions options;
  options.count = count;
  options.depths = 3;
  std::vector<Cell> cells;
  for (const GeneratedTask& task : kGeneratedTasks) {
    auto cell = make_cell(task, kLength, texts(), options, *tiny_model().tokenizer());
    INFO((cell ? "" : cell.error().what));
    REQUIRE(cell);
    cells.push_back(std::move(*cell));
  }
  return cells;
}

std::vector<Sample> windows_of(int64_t most) {
  auto windows = text_windows(texts(), kLength, most, *tiny_model().tokenizer());
  REQUIRE(windows);
  return *windows;
}

Evaluation evaluate_tiny(const runtime::HeadConfig& config, int64_t count,
                         const EvalOptions& options) {
  const auto result =
      evaluate(tiny_model(), config, windows_of(count), cells_of(count), options, {});
  INFO((result ? "" : result.error().what));
  REQUIRE(result);
  return *result;
}

TEST_CASE("a config that runs every head dense differs in nothing, in any task") {
  const auto element = GENERATE(runtime::Element::f32, runtime::Element::bf16);
  const Status has_bf16 = bf16_linear_available();
  if (element == runtime::Element::bf16 && !has_bf16) MI_SKIP(has_bf16.what);
  EvalOptions options = options_of(element);
  options.decode = true;
  const Evaluation evaluation = evaluate_tiny(dense_config(tiny_model().spec()), 3, options);
  REQUIRE(evaluation.windows.size() == 3);
  for (const WindowResult& window : evaluation.windows) {
    CHECK(window.dense_nll.size() == kLength - 1);
    CHECK(window.dense_nll == window.sparse_nll);
    CHECK(window.sparse.share == Approx(1));
  }
  const auto summaries = summarize(evaluation.windows, 100000);
  REQUIRE(summaries.size() == 1);
  for (const PositionSummary& at : summaries[0].positions) {
    CHECK(at.change.value == 0);
    CHECK(at.change.low == 0);
    CHECK(at.change.high == 0);
    CHECK(at.verdict == Verdict::same);
  }
  REQUIRE(evaluation.cells.size() == kGeneratedTasks.size());
  for (const CellResult& cell : evaluation.cells) {
    INFO(cell.task);
    REQUIRE(cell.questions.size() == 3);
    for (const AnsweredQuestion& question : cell.questions) {
      CHECK(question.tokens == kLength);
      CHECK(question.dense.logp == question.sparse.logp);
      CHECK(question.dense.tokens_right == question.sparse.tokens_right);
      CHECK(!question.dense.decoded.empty());
      CHECK(question.dense.decoded == question.sparse.decoded);
    }
    const CellSummary summary = summarize(cell);
    CHECK(summary.right.difference.value == 0);
    CHECK(summary.right.difference.low < 0);
    CHECK(summary.right.difference.high > 0);
    CHECK(summary.logp_difference.value == 0);
    CHECK(summary.logp_difference.high == 0);
    CHECK(summary.cost.share == Approx(1));
  }
}

TEST_CASE("questions that share a prefill are answered as from prompts of their own") {
  const auto element = GENERATE(runtime::Element::f32, runtime::Element::bf16);
  const Status has_bf16 = bf16_linear_available();
  if (element == runtime::Element::bf16 && !has_bf16) MI_SKIP(has_bf16.what);
  const EvalOptions options = options_of(element);
  TaskOptions tasks;
  tasks.count = 10;
  const auto cell =
      make_cell(kGeneratedTasks[2], kLength, texts(), tasks, *tiny_model().tokenizer());
  REQUIRE(cell);
  REQUIRE(cell->task == "multikey");
  std::set<std::string> answers;  // of the first text: every fact is asked for
  for (int i = 0; i < kFactsPerText; ++i) answers.insert(cell->questions[i].accepted.front());
  CHECK(answers.size() == kFactsPerText);
  std::vector<Cell> alone;
  for (const Question& question : cell->questions)
    alone.push_back({cell->task, cell->length, {question}});
  const runtime::HeadConfig config = dense_config(tiny_model().spec());
  const auto together = evaluate(tiny_model(), config, {}, {*cell}, options, {});
  const auto apart = evaluate(tiny_model(), config, {}, alone, options, {});
  REQUIRE(together);
  REQUIRE(apart);
  REQUIRE(together->cells.front().questions.size() == 10);
  const double tolerance = element == runtime::Element::bf16 ? 0.1 : 1e-3;
  for (size_t i = 0; i < 10; ++i) {
    const Answer& shared = together->cells.front().questions[i].dense;
    const Answer& own = apart->cells[i].questions.front().dense;
    CHECK(shared.logp == Approx(own.logp).margin(tolerance));
    CHECK(together->cells.front().questions[i].sparse.logp == Approx(own.logp).margin(tolerance));
  }
}

TEST_CASE("scores are those of the logits, and sparse attention changes them") {
  const Evaluation evaluation =
      evaluate_tiny(windows_config(), 2, options_of(runtime::Element::f32));
  const auto log_probabilities = [&](std::span<const int32_t> ids) {
    const auto hidden = tiny_model().forward(ids, dense_attention, {});
    REQUIRE(hidden);
    Tensor<float, 2> logits({hidden->extent(0), tiny_model().spec().vocab});
    REQUIRE(tiny_model().logits(hidden->view(), logits.view()));
    std::vector<std::pair<double, bool>> next;  // log p, and whether it is the first choice
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto row = logits.view()[static_cast<int64_t>(i)];
      double sum = 0;
      bool first = true;
      for (int64_t v = 0; v < logits.extent(1); ++v) {
        sum += std::exp(static_cast<double>(row[v]) - static_cast<double>(row[ids[i + 1]]));
        first = first && row[v] <= row[ids[i + 1]];
      }
      next.emplace_back(-std::log(sum), first);
    }
    return next;
  };
  const Sample window = windows_of(1).front();
  const auto want = log_probabilities(window.ids);
  for (size_t i = 0; i < want.size(); ++i)
    CHECK(-evaluation.windows[0].dense_nll[i] == Approx(want[i].first).margin(1e-4));
  CHECK(evaluation.windows[0].dense_nll != evaluation.windows[0].sparse_nll);
  CHECK(evaluation.windows[0].sparse.share < 1);
  const auto cells = cells_of(2);
  for (size_t c = 0; c < cells.size(); ++c) {
    const Sample& sample = cells[c].questions[1].sample;
    const AnsweredQuestion& got = evaluation.cells[c].questions[1];
    const auto next = log_probabilities(sample.ids);
    double logp = 0;
    int64_t right = 0;
    for (auto i = static_cast<size_t>(sample.answer_begin); i < sample.ids.size(); ++i) {
      logp += next[i - 1].first;
      right += next[i - 1].second ? 1 : 0;
    }
    CHECK(got.dense.logp == Approx(logp).margin(1e-3));
    CHECK(got.dense.tokens_right == right);
    CHECK(got.sparse.logp != got.dense.logp);
  }
}

TEST_CASE("progress rises to one, and notes of the plan come once") {
  runtime::HeadConfig config = dense_config(tiny_model().spec());
  for (auto& layer : config.layers)
    for (runtime::HeadEntry& head : layer) {
      head.pattern = runtime::Pattern::stripe;
      head.density = {{0, 0.1}};
    }
  config.kernel.dense_below = 200000;
  std::vector<double> fractions;
  const auto result =
      evaluate(tiny_model(), config, windows_of(2), {}, options_of(runtime::Element::f32),
               [&](std::string_view, double fraction) { fractions.push_back(fraction); });
  REQUIRE(result);
  CHECK(fractions.front() == 0);
  CHECK(fractions.back() == 1);
  CHECK(std::is_sorted(fractions.begin(), fractions.end()));
  REQUIRE(result->notes.size() == 1);
  CHECK(result->notes[0].find("beside dense_below") != std::string::npos);
  CHECK(result->windows[0].dense_nll == result->windows[0].sparse_nll);
}

TEST_CASE("questions are of the length asked for, end in their answer and differ") {
  std::set<std::string> digests;
  for (const Cell& cell : cells_of(6)) {
    INFO(cell.task);
    for (const Question& question : cell.questions) {
      CHECK(question.sample.length() == kLength);
      CHECK(question.sample.answer_end == kLength);
      CHECK(question.sample.answer_begin < kLength);
      digests.insert(question.sample.sha256);
      const auto text = tiny_model().tokenizer()->decode(question.sample.ids);
      REQUIRE(text);
      CHECK(text->ends_with(question.accepted.at(0)));
      const bool is_in_prompt =
          text->find(question.accepted[0]) < text->size() - question.accepted[0].size();
      CHECK(is_in_prompt == (cell.task != "vt"));  // which asks for a list
      CHECK((question.depth >= 0) == (cell.task == "needle"));
    }
  }
  CHECK(digests.size() == kGeneratedTasks.size() * 6);
  CHECK(depth_at(0, 1) == 0.5);
  CHECK(depth_at(0, 5) == 0);
  CHECK(depth_at(4, 5) == 1);
}

TEST_CASE("windows of text follow each other, as many as fit") {
  const auto all = windows_of(1000);
  const auto some = windows_of(2);
  CHECK(some.size() == 2);
  CHECK(all.size() > 5);
  CHECK(all[1].ids == some[1].ids);
  CHECK(all[0].ids != all[1].ids);
  for (const Sample& window : all) CHECK(window.length() == kLength);
  const auto none = text_windows(texts(), 1 << 20, 1, *tiny_model().tokenizer());
  REQUIRE(!none);
  CHECK(none.error().what.find("text-06.txt: found ") != std::string::npos);
}

TEST_CASE("texts of a recipe are the held-out ones, of one part") {
  const auto recipe = parse_recipe(R"(schema: mi.recipe
schema_version: 1
name: r
lengths: [512]
calibration:
- {kind: text, texts: [a.txt]}
held_out:
- {kind: kv_retrieval, seed: 4}
- {kind: text, texts: [b.txt, c.txt], part: [0.5, 1]}
- {kind: needle, texts: [c.txt, d.txt], seed: 3, part: [0.5, 1]}
- {kind: needle, texts: [e.txt], seed: 3}
)",
                                   "r.yaml", "/f");
  INFO((recipe ? "" : recipe.error().what));
  REQUIRE(recipe);
  const SampleSpec spec = held_out_texts(*recipe);
  CHECK(spec.texts == std::vector<std::filesystem::path>{"/f/b.txt", "/f/c.txt", "/f/d.txt"});
  CHECK(spec.part_begin == 0.5);
  CHECK(spec.part_end == 1);
}

// Results made by hand: dense right, sparse right.
CellResult cell_of(std::initializer_list<std::pair<bool, bool>> answers) {
  CellResult cell{"needle", 4096, {}};
  for (const auto& [dense, sparse] : answers) {
    AnsweredQuestion question;
    question.source = "by hand";
    question.tokens = 4096;
    question.answer_tokens = 2;
    question.depth = static_cast<int>(cell.questions.size() % 2);
    question.dense.right = dense;
    question.dense.tokens_right = dense ? 2 : 1;
    question.dense.logp = -1;
    question.dense.cost = {2, 1, 1};
    question.sparse.right = sparse;
    question.sparse.tokens_right = sparse ? 2 : 0;
    question.sparse.logp = -1.5;
    question.sparse.cost = {1, 0.25, 0.125};
    cell.questions.push_back(question);
  }
  return cell;
}

TEST_CASE("a cell is summed up, and judged only where dense answers") {
  const CellSummary summary =
      summarize(cell_of({{true, true}, {true, true}, {true, true}, {true, false}, {false, true}}));
  CHECK(summary.right.dense == 4);
  CHECK(summary.right.sparse == 4);
  CHECK(summary.right.difference.value == 0);
  CHECK(summary.right.verdict == Verdict::not_told_apart);
  CHECK(summary.dense_tokens == Approx(0.9));
  CHECK(summary.sparse_tokens == Approx(0.8));
  CHECK(summary.dense_logp == Approx(-1));
  CHECK(summary.logp_difference.value == Approx(-0.5));
  CHECK(summary.cost.speed_up == 2);
  CHECK(summary.cost.attention_speed_up == 4);
  CHECK(summary.cost.share == 0.125);
  CHECK(summarize(cell_of({{true, true}, {true, true}})).right.verdict == Verdict::same);
  CHECK(
      summarize(cell_of({{true, true}, {true, true}, {true, true}, {false, true}})).right.verdict ==
      Verdict::not_judged);
  CellResult lost = cell_of({});
  for (int i = 0; i < 30; ++i) {
    const auto one = cell_of({{true, i % 2 == 0}});
    lost.questions.push_back(one.questions[0]);
  }
  CHECK(summarize(lost).right.verdict == Verdict::worse);
  CHECK(summarize(lost).right.difference.high < 0);
  const auto depths = by_depth(cell_of({{true, true}, {true, false}, {false, false}}));
  REQUIRE(depths.size() == 2);
  CHECK(depths[0].questions == 2);
  CHECK(depths[0].dense == 1);
  CHECK(depths[1].dense == 1);
  CHECK(depths[1].sparse == 0);
}

WindowResult window_of(int64_t length, float dense, float sparse) {
  WindowResult window;
  window.source = "by hand";
  window.length = length;
  window.dense_nll.assign(static_cast<size_t>(length - 1), dense);
  window.sparse_nll.assign(static_cast<size_t>(length - 1), sparse);
  window.dense = {2, 1, 1};
  window.sparse = {1, 0.5, 0.25};
  return window;
}

TEST_CASE("perplexity by position: bounds, bits of text that weigh alike, trained positions") {
  auto windows =
      std::vector{window_of(4096, 1, 1.5F), window_of(4096, 2, 2.5F), window_of(8192, 1, 1)};
  const auto summaries = summarize(windows, 5000);
  REQUIRE(summaries.size() == 2);
  CHECK(summaries[0].length == 4096);
  CHECK(summaries[0].windows == 2);
  const auto bounds = [](const WindowSummary& summary) {
    std::vector<std::pair<int64_t, int64_t>> all;
    for (const PositionSummary& at : summary.positions) all.emplace_back(at.begin, at.end);
    return all;
  };
  CHECK(bounds(summaries[0]) == std::vector<std::pair<int64_t, int64_t>>{
                                    {0, 512}, {512, 1024}, {1024, 2048}, {2048, 4096}});
  CHECK(bounds(summaries[1]) ==
        std::vector<std::pair<int64_t, int64_t>>{
            {0, 1024}, {1024, 2048}, {2048, 4096}, {4096, 5000}, {5000, 8192}});
  for (const PositionSummary& at : summaries[0].positions) {
    CHECK(at.dense_perplexity == Approx(std::exp(1.5)));
    CHECK(at.sparse_perplexity == Approx(std::exp(2.0)));
    CHECK(at.change.value == Approx(std::exp(0.5) - 1));
    CHECK(at.change.low <= at.change.value);
    CHECK(at.change.value <= at.change.high);
    CHECK(at.verdict == Verdict::worse);
  }
  CHECK(summaries[1].positions[3].verdict == Verdict::same);
  CHECK(summaries[1].positions[4].verdict == Verdict::not_judged);
  CHECK(summaries[1].all.end == 5000);
  CHECK(summaries[1].all.verdict == Verdict::same);
  // Only some positions are worse.
  for (size_t i = 2047; i < 4095; ++i) {
    windows[0].sparse_nll[i] = windows[0].dense_nll[i] - 0.1F;
    windows[1].sparse_nll[i] = windows[1].dense_nll[i] - 0.1F;
  }
  const auto mixed = summarize(windows, 5000);
  CHECK(mixed[0].positions[2].verdict == Verdict::worse);
  CHECK(mixed[0].positions[3].verdict == Verdict::better);
}

TEST_CASE("the table says what was run and what came of it; the JSON has the same numbers") {
  const runtime::HeadConfig config = windows_config();
  EvalHeading heading;
  heading.config_file = "c\x1b.yaml";
  heading.config = &config;
  heading.context = 5000;
  heading.element = "bf16";
  heading.backend = "cpu_amx";
  heading.threads = 2;
  heading.texts = "a.txt";
  heading.decoded = true;
  Evaluation evaluation;
  evaluation.windows = {window_of(4096, 1, 1.01F), window_of(8192, 1, 1)};
  evaluation.cells = {cell_of({{true, true}, {true, false}}), cell_of({{false, true}})};
  evaluation.cells[1].questions[0].cut = true;
  const std::string table = eval_table(heading, evaluation, {100, false});
  INFO(table);
  for (const char* part :
       {"config   c?.yaml, limit 100 % of dense", "bf16, cpu_amx, 2 threads",
        "Perplexity by position (a.txt)", "1 x 4096", "2048-4095", "2.718", "2.746", "all trained",
        "not judged: past the trained positions", "speed-up 2.00 (attention alone 2.00)",
        "needle       4096 dense        2/2  100.0%", "sparse       1/2   50.0%", "-50.0 [",
        "not judged: dense under 80 %", "1 of 1 contexts were cut in the middle to 4096 tokens",
        "Decoded greedily", "needle by depth", "1, 1 of 1", "0, 0 of 0"})
    CHECK_THAT(table, Catch::Contains(part));
  CHECK(table.find('\x1b') == std::string::npos);
  CHECK(eval_table(heading, evaluation, {100, true}).find("\x1b[1m") != std::string::npos);
  size_t line = 0;
  for (const char c : table) {
    line = c == '\n' ? 0 : line + 1;
    CHECK(line <= 110);
  }
  const auto json = nlohmann::json::parse(eval_json(heading, evaluation));
  CHECK(json["tasks"][0]["right"]["dense"] == 2);
  CHECK(json["tasks"][0]["right"]["difference"]["value"] == -0.5);
  CHECK(json["tasks"][0]["answers"].size() == 2);
  CHECK(json["tasks"][0]["by_depth"][1]["sparse"] == 0);
  CHECK(json["perplexity"][1]["positions"].size() == 5);
  CHECK(json["perplexity"][1]["positions"][4]["verdict"] == "not judged");
  CHECK(json["perplexity"][0]["prefill"]["speed_up"] == 2);
}

}  // namespace
}  // namespace mi::search
