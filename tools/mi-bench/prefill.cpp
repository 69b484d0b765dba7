// Whole-model prefill, from embedding to the last token's logits: dense in f32, dense and sparse in
// bf16, in turns.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/model/linear.h"
#include "libsearch/search/planned_attention.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/timing.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

struct Run {
  std::string name;
  bool sparse = false;
  std::function<Status()> prefill;
  Timing ms;
  double executed = 0;        // share of dense attention, mean over heads and layers
  std::vector<float> logits;  // of the last token
};

class Bench {
 public:
  Bench(const search::Model& model, std::vector<int32_t> ids, search::ComputeOptions compute)
      : model_(model), ids_(std::move(ids)), compute_(compute) {}

  [[nodiscard]] const search::ComputeOptions& compute() const { return compute_; }

  // Planning is a call's own work, not an engine's: done once per prompt length.
  template <class T>
  [[nodiscard]] Status add(std::string name, bool sparse, const runtime::HeadConfig& config) {
    constexpr auto kElement =
        std::is_same_v<T, bf16> ? runtime::Element::bf16 : runtime::Element::f32;
    MI_TRY(auto plan, search::PlannedAttention::make(config, std::ssize(ids_), compute_, kElement));
    auto attention = std::make_shared<search::PlannedAttention>(std::move(plan));
    const size_t at = runs_.size();
    runs_.push_back({std::move(name), sparse, {}, {}, 0, {}});
    runs_[at].prefill = [this, at, attention] { return prefill<T>(*attention, runs_[at]); };
    return {};
  }

  [[nodiscard]] Result<std::vector<Run>> measure(int rounds) {
    Status failed;
    std::vector<std::function<void()>> contestants;
    for (Run& run : runs_)
      contestants.emplace_back([&failed, &run] {
        if (Status status = run.prefill(); !status) failed = std::move(status);
      });
    const auto timings = alternate(std::move(contestants), rounds);
    MI_CHECK(failed);
    for (size_t i = 0; i < runs_.size(); ++i) runs_[i].ms = timings[i];
    return std::move(runs_);
  }

 private:
  template <class T>
  Status prefill(search::PlannedAttention& attention, Run& run) {
    const search::ModelSpec& spec = model_.spec();
    double executed = 0;
    const search::BasicAttentionFn<T> attend = [&](const search::BasicLayerQkv<T>& layer,
                                                   TensorView<T, 3> o) -> Status {
      MI_CHECK(attention.run(layer, o));
      for (const runtime::HeadStats& head : attention.stats())
        executed += head.share / spec.heads / spec.layers;
      return {};
    };
    MI_TRY(const auto hidden, model_.forward(ids_, attend, {}));
    run.executed = executed;
    const int64_t last = hidden.extent(0) - 1;
    run.logits.resize(static_cast<size_t>(spec.vocab));
    return model_.logits({hidden.view()[last].data, {1, spec.hidden}},
                         {run.logits.data(), {1, spec.vocab}});
  }

  const search::Model& model_;
  std::vector<int32_t> ids_;
  search::ComputeOptions compute_;
  std::vector<Run> runs_;
};

Result<std::vector<Run>> measure(const BenchOptions& options, search::ComputeOptions& compute) {
  MI_CHECK(
      check_outputs({options.logits_file}, {options.model, options.config, options.tokens_file}));
  MI_TRY(compute, compute_options(options));
  MI_TRY(compute.backend, kernels::choose_backend(options.backend));
  MI_TRY(const auto model, search::Model::open(options.model));
  const runtime::HeadConfig dense = search::dense_config(model->spec());
  MI_TRY(search::Sample sample, prompt(options, *model, options.tokens));
  Bench bench(*model, std::move(sample.ids), compute);
  MI_CHECK(bench.add<float>("dense f32", false, dense));
  const Status has_bf16 = search::bf16_linear_available();
  if (has_bf16) {
    MI_CHECK(bench.add<bf16>("dense bf16", false, dense));
  } else {
    print_note(fmt::format("{}: note: f32 only: {}\n", kBench, has_bf16.what));
  }
  if (!options.config.empty()) {
    MI_TRY(const auto config, runtime::load_config(options.config));
    MI_CHECK(search::check_config_model(config, model->spec(), options.config));
    if (has_bf16) MI_CHECK(bench.add<bf16>("sparse bf16", true, config));
  }
  MI_TRY(auto runs, bench.measure(options.rounds));
  if (!options.logits_file.empty()) {
    std::vector<float> all;
    for (const Run& run : runs) all.insert(all.end(), run.logits.begin(), run.logits.end());
    MI_CHECK(write_bytes(options.logits_file, std::as_bytes(std::span(all))));
  }
  return runs;
}

}  // namespace

int run_prefill(const BenchOptions& options) {
  search::ComputeOptions compute;
  const auto runs = measure(options, compute);
  if (!runs) return report(kBench, runs.error());
  const auto tokens = static_cast<double>(options.tokens);
  if (options.json) {
    nlohmann::ordered_json json = {{"tokens", options.tokens},
                                   {"threads", compute.threads},
                                   {"backend", compute.backend->name()},
                                   {"runs", nlohmann::ordered_json::array()}};
    for (const Run& run : *runs) {
      nlohmann::ordered_json row = {{"name", run.name},
                                    {"seconds", run.ms.median / 1e3},
                                    {"least", run.ms.least / 1e3},
                                    {"most", run.ms.most / 1e3},
                                    {"tokens_per_second", tokens / run.ms.median * 1e3}};
      row["executed"] = nullptr;
      if (run.sparse) row["executed"] = run.executed;
      json["runs"].push_back(std::move(row));
    }
    return report(kBench, print_result(json.dump(2) + "\n"));
  }
  std::string text = fmt::format("{} tokens, {}, {} threads\n{:>12} {:>8} {:>15} {:>9} {:>9}\n",
                                 options.tokens, compute.backend->name(), compute.threads, "", "s",
                                 "range", "tokens/s", "executed");
  for (const Run& run : *runs)
    text += fmt::format("{:>12} {:>8.2f} {:>7.2f}-{:<7.2f} {:>9.0f} {:>9}\n", run.name,
                        run.ms.median / 1e3, run.ms.least / 1e3, run.ms.most / 1e3,
                        tokens / run.ms.median * 1e3,
                        run.sparse ? fmt::format("{:.2f}%", 100 * run.executed) : "");
  return report(kBench, print_result(text));
}

}  // namespace mi::tools
