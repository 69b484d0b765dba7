// One sample of a search, dense pass and scoring of every default candidate, beside the dense pass
// alone. The certificate is no part of it.
#include <functional>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/model/linear.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/score_table.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

constexpr double kBar = 2;  // a search may take this many dense passes

struct Row {
  std::string_view element;
  int64_t tokens;
  Timing dense, search;  // ms
  double forward_ms;     // of the last search: its own dense pass
  double score_ms;
  double ratio;  // median over the rounds
};

template <class T>
Status dense_pass(const search::Model& model, const search::Sample& sample,
                  const search::ComputeOptions& compute) {
  MI_TRY(auto attention, search::PlannedAttention::make(search::dense_config(model.spec()),
                                                        sample.length(), compute, compute.element));
  const search::BasicAttentionFn<T> attend = [&](const search::BasicLayerQkv<T>& layer,
                                                 TensorView<T, 3> o) {
    return attention.run(layer, o);
  };
  MI_TRY([[maybe_unused]] const auto hidden, model.forward(sample.ids, attend, {}));
  return {};
}

// Both precisions take turns; as mi-search with its standard objective, which needs no extras.
Result<std::vector<Row>> measure_length(const BenchOptions& options, const search::Model& model,
                                        int64_t tokens) {
  MI_TRY(const search::Sample sample, prompt(options, model, tokens));
  const auto space = search::default_candidates();
  MI_TRY(search::ComputeOptions wide, compute_options(options));
  wide.extras = false;
  search::ComputeOptions narrow = wide;
  MI_TRY(narrow.backend, kernels::choose_backend(options.backend));
  narrow.element = runtime::Element::bf16;
  std::vector<const search::ComputeOptions*> all = {&wide};
  if (const Status has_bf16 = search::bf16_linear_available()) {
    all.push_back(&narrow);
  } else {
    print_note(fmt::format("{}: note: f32 only: {}\n", kBench, has_bf16.what));
  }
  std::vector<search::ScoreTable> tables(all.size());
  Status failed;
  std::vector<std::function<void()>> contestants;
  for (size_t i = 0; i < all.size(); ++i) {
    contestants.emplace_back([&, i] {
      const auto pass =
          all[i]->element == runtime::Element::bf16 ? dense_pass<bf16> : dense_pass<float>;
      if (Status s = pass(model, sample, *all[i]); !s) failed = s;
    });
    contestants.emplace_back([&, i] {
      tables[i] = {};
      if (Status s =
              search::score_samples(model, std::span(&sample, 1), space, *all[i], {}, tables[i]);
          !s)
        failed = s;
    });
  }
  const auto timings = alternate(contestants, options.rounds);
  MI_CHECK(failed);
  std::vector<Row> rows;
  for (size_t i = 0; i < all.size(); ++i) {
    const Timing& dense = timings[2 * i];
    const Timing& search = timings[2 * i + 1];
    rows.push_back({i == 0 ? "f32" : "bf16", tokens, dense, search, 1e3 * tables[i].forward_seconds,
                    1e3 * tables[i].score_seconds, median(ratios(search, dense))});
  }
  return rows;
}

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const auto model, search::Model::open(options.model));
  std::vector<Row> rows;
  for (const int64_t tokens : options.lengths) {
    MI_TRY(const auto of_length, measure_length(options, *model, tokens));
    rows.insert(rows.end(), of_length.begin(), of_length.end());
  }
  return rows;
}

}  // namespace

int run_search(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format(
      "one sample, {} candidates per head, no certificate\n"
      "{:>5}{:>8}{:>10}{:>10}{:>16}{:>24}\n",
      search::default_candidates().candidates(), "", "tokens", "dense", "search", "search / dense",
      "of it forward, scoring");
  for (const Row& r : *rows) {
    json.push_back({{"element", r.element},
                    {"tokens", r.tokens},
                    {"dense_ms", r.dense.median},
                    {"dense_ms_least", r.dense.least},
                    {"dense_ms_most", r.dense.most},
                    {"search_ms", r.search.median},
                    {"search_ms_least", r.search.least},
                    {"search_ms_most", r.search.most},
                    {"forward_ms", r.forward_ms},
                    {"score_ms", r.score_ms},
                    {"ratio", r.ratio}});
    text += fmt::format("{:>5}{:>8}{:>8.2f} s{:>8.2f} s{:>16.2f}{:>13.2f} s,{:>6.2f} s{}\n",
                        r.element, r.tokens, r.dense.median / 1e3, r.search.median / 1e3, r.ratio,
                        r.forward_ms / 1e3, r.score_ms / 1e3,
                        r.ratio > kBar ? fmt::format(" ! above {}", kBar) : "");
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
