// Scoring of every default candidate of a layer's heads beside the dense attention it adds to.
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libsearch/search/candidates.h"
#include "libsearch/search/score.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

struct Row {
  int head_dim;
  int64_t tokens;
  Timing dense_bf16, dense_f32, score;
};

Result<Row> measure_one(const BenchOptions& options, const kernels::Backend& backend, int threads,
                        int dim, int64_t n) {
  LayerTensors narrow(n, n, dim, options.seed);
  MI_TRY(LayerPlan dense, LayerPlan::make(narrow, {}, backend, threads));
  const auto wide = [](const Tensor<bf16, 3>& from) {
    Tensor<float, 3> to({from.extent(0), from.extent(1), from.extent(2)});
    widen(from.view().data, from.extent(2), from.extent(0) * from.extent(1), from.extent(2),
          to.data());
    return to;
  };
  const Tensor<float, 3> q = wide(narrow.q);
  const Tensor<float, 3> k = wide(narrow.k);
  const Tensor<float, 3> v = wide(narrow.v);
  Tensor<float, 3> o({kHeads, n, dim});
  Tensor<float, 2> lse({kHeads, n});
  const runtime::PlanShape shape{
      .n_q = n, .n_kv = n, .heads = kHeads, .kv_heads = kKvHeads, .head_dim = dim};
  MI_TRY(auto plan,
         runtime::Plan::make(one_layer(kHeads, kKvHeads, dim, {}), shape, backend, threads));
  AlignedBuffer<std::byte> workspace(plan.workspace_bytes());
  const auto space = search::default_candidates();
  search::LayerScorer scorer(space,
                             {.tokens = n,
                              .heads = kHeads,
                              .kv_heads = kKvHeads,
                              .head_dim = dim,
                              .threads = threads,
                              .extras = false},
                             backend);
  search::LayerAttention layer;
  layer.q = q.view();
  layer.k = k.view();
  layer.v = v.view();
  layer.k_bf16 = std::as_const(narrow.k).view();
  layer.v_bf16 = std::as_const(narrow.v).view();
  layer.lse = std::as_const(lse).view();
  layer.scale = 1 / std::sqrt(static_cast<float>(dim));
  Status failed;
  const auto timings =
      alternate({[&] {
                   if (Status s = dense.run(narrow); !s) failed = s;
                 },
                 [&] {
                   runtime::Unspent unspent;
                   if (Status s = plan.run(0, q.view(), k.view(), v.view(), o.view(), lse.view(),
                                           workspace.data(), {}, unspent);
                       !s)
                     failed = s;
                 },
                 [&] { (void)scorer.score(layer); }},
                options.rounds);
  MI_CHECK(failed);
  return Row{dim, n, timings[0], timings[1], timings[2]};
}

}  // namespace

int run_score(const BenchOptions& options) {
  const auto backend = kernels::choose_backend(options.backend);
  if (!backend) return report(kBench, backend.error());
  const int threads = threads_of(options);
  auto json = nlohmann::json::array();
  std::string text = fmt::format(
      "{} query and {} KV heads, {} candidates each, output error on every 8th block\n"
      "{:>4} {:>7} {:>12} {:>12} {:>10} {:>10} {:>10}\n",
      kHeads, kKvHeads, search::default_candidates().candidates(), "d", "tokens", "dense bf16",
      "dense f32", "score", "of bf16", "of f32");
  for (const int dim : {64, 128}) {
    for (const int64_t n : options.lengths) {
      const auto row = measure_one(options, **backend, threads, dim, n);
      if (!row) return report(kBench, row.error());
      const double narrow = row->score.median / row->dense_bf16.median;
      const double wide = row->score.median / row->dense_f32.median;
      json.push_back({{"head_dim", dim},
                      {"tokens", n},
                      {"dense_bf16_ms", row->dense_bf16.median},
                      {"dense_f32_ms", row->dense_f32.median},
                      {"score_ms", row->score.median},
                      {"score_ms_least", row->score.least},
                      {"score_ms_most", row->score.most}});
      text += fmt::format("{:>4} {:>7} {:>9.1f} ms {:>9.1f} ms {:>7.0f} ms {:>9.2f}x {:>9.2f}x\n",
                          dim, n, row->dense_bf16.median, row->dense_f32.median, row->score.median,
                          narrow, wide);
    }
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
