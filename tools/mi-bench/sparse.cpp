// Sparse bf16 attention against our own dense: aligned runs and gathered single keys with the
// selection given (the kernel alone), and patterns with everything included.
#include <array>
#include <cmath>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/pattern_runs.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

constexpr std::array kPatterns = {runtime::Pattern::stripe, runtime::Pattern::stripe_vertical_slash,
                                  runtime::Pattern::vertical_slash, runtime::Pattern::block_sparse};

// Keys of every row block and head.
std::vector<uint64_t> make_selection(int64_t n, int64_t run, uint64_t seed) {
  const int64_t blocks = n / kernels::kRowBlock;
  const auto words = static_cast<size_t>(kernels::bitmap_words(n));
  std::vector<uint64_t> all(static_cast<size_t>(kHeads * blocks) * words);
  std::mt19937_64 engine(seed);
  for (int64_t row = 0; row < kHeads * blocks; ++row)
    select_randomly(std::span(all).subspan(static_cast<size_t>(row) * words, words), row % blocks,
                    run, engine);
  return all;
}

// All heads over given selections, packing included.
class GivenSelection {
 public:
  GivenSelection(LayerTensors& layer, const kernels::Backend& backend, int threads)
      : layer_(layer),
        backend_(backend),
        threads_(threads),
        packed_bytes_(backend.packed_bytes(layer.head_dim, layer.n_kv)),
        scratch_bytes_((backend.packed_scratch_bytes(layer.head_dim, layer.n_kv) + 63) / 64 * 64),
        packed_(kKvHeads * packed_bytes_),
        scratch_(static_cast<size_t>(threads) * scratch_bytes_) {}

  // Returns executed tiles.
  int64_t run(const std::vector<uint64_t>& selection) {
    const int64_t blocks = layer_.n_kv / kernels::kRowBlock;
    const int64_t words = kernels::bitmap_words(layer_.n_kv);
    const int64_t turns = (blocks + kTogether - 1) / kTogether;
    int64_t tiles = 0;
#pragma omp parallel num_threads(threads_) reduction(+ : tiles)
    {
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < kKvHeads * blocks; ++unit)
        backend_.pack(group(unit / blocks, {}).rows, unit % blocks,
                      packed_.data() + static_cast<size_t>(unit / blocks) * packed_bytes_);
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < kKvHeads * turns; ++unit) {
        const int64_t last = blocks - unit / kKvHeads * kTogether;
        const int64_t kv = unit % kKvHeads;
        std::array<kernels::HeadBlock, kernels::kMaxGroup> parts;
        size_t held = 0;
        for (int64_t m = std::max<int64_t>(0, last - kTogether); m < last; ++m)
          for (int64_t h = kv * kGroup; h < (kv + 1) * kGroup; ++h)
            parts[held++] = part(h, m, selection.data() + (h * blocks + m) * words);
        backend_.attend_packed(
            group(kv, std::span(parts).first(held)),
            scratch_.data() + static_cast<size_t>(omp_get_thread_num()) * scratch_bytes_);
        for (size_t n = 0; n < held; ++n) tiles += parts[n].tiles;
      }
    }
    return tiles;
  }

 private:
  // As a plan groups them.
  static constexpr int64_t kGroup = kHeads / kKvHeads;
  static constexpr int64_t kTogether = kernels::kMaxGroup / kGroup;

  [[nodiscard]] kernels::HeadBlock part(int64_t h, int64_t block, const uint64_t* keys) {
    return {
        .q = layer_.q.view()[h].data, .o = layer_.o.view()[h].data, .block = block, .keys = keys};
  }
  [[nodiscard]] kernels::PackedGroup group(int64_t g, std::span<kernels::HeadBlock> blocks) {
    const int dim = layer_.head_dim;
    return {.rows = {layer_.k.view()[g].data, layer_.v.view()[g].data, dim, dim, layer_.n_kv, dim},
            .packed = packed_.data() + static_cast<size_t>(g) * packed_bytes_,
            .blocks = blocks,
            .q_stride = dim,
            .o_stride = dim,
            .n_q = layer_.n_q,
            .scale = 1 / std::sqrt(static_cast<float>(dim))};
  }

  LayerTensors& layer_;
  const kernels::Backend& backend_;
  int threads_;
  size_t packed_bytes_, scratch_bytes_;
  AlignedBuffer<std::byte> packed_, scratch_;
};

struct Row {
  std::string name;
  int head_dim;
  int64_t tokens;
  Timing ms;
  double share;      // executed tiles of dense
  double speedup;    // against dense
  double per_flop;   // of dense's rate
  double estimate;   // part of the time; 0 where the selection was given
  size_t workspace;  // bytes beyond inputs and outputs; 0 where the selection was given
};

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  const int threads = threads_of(options);
  std::vector<Row> rows;
  for (const int dim : {64, 128}) {
    for (const int64_t length : options.lengths) {
      const int64_t n = length / kernels::kRowBlock * kernels::kRowBlock;
      LayerTensors layer(n, n, dim, options.seed);
      MI_TRY(LayerPlan dense, LayerPlan::make(layer, {}, *backend, threads));
      GivenSelection given(layer, *backend, threads);
      const auto runs = make_selection(n, 64, options.seed + 3);
      const auto single = make_selection(n, 1, options.seed + 4);
      Status failed;
      std::vector<int64_t> tiles(3);
      std::vector<std::string> names = {"dense", "runs of 64", "single keys"};
      std::vector<std::function<void()>> contestants = {[&] {
                                                          if (Status s = dense.run(layer); !s)
                                                            failed = s;
                                                        },
                                                        [&] { tiles[1] = given.run(runs); },
                                                        [&] { tiles[2] = given.run(single); }};
      std::vector<LayerPlan> plans;
      std::vector<LayerEstimate> estimates;
      plans.reserve(kPatterns.size());
      estimates.reserve(kPatterns.size());
      for (const runtime::Pattern pattern : kPatterns) {
        runtime::HeadEntry entry;
        entry.pattern = pattern;
        MI_TRY(LayerPlan plan, LayerPlan::with_share(layer, entry, kShare, *backend, threads));
        names.push_back(fmt::format("{} at {:.1f} %", to_string(pattern), 100 * plan.share()));
        tiles.push_back(plan.tiles());
        estimates.emplace_back(layer, plan.entry(), *backend, threads).pack();
        plans.push_back(std::move(plan));
        contestants.emplace_back([&, &plan = plans.back()] {
          if (Status s = plan.run(layer); !s) failed = s;
        });
      }
      for (LayerEstimate& estimate : estimates)
        contestants.emplace_back([&] { estimate.estimate(); });
      const auto timings = alternate(contestants, options.rounds);
      MI_CHECK(failed);
      tiles[0] = dense.tiles();
      for (size_t i = 0; i < names.size(); ++i) {
        const double share = static_cast<double>(tiles[i]) / static_cast<double>(tiles[0]);
        const double speedup = timings[0].median / timings[i].median;
        const double estimate =
            i < 3 ? 0 : timings[i + kPatterns.size()].median / timings[i].median;
        const size_t workspace = i == 0  ? dense.workspace_bytes()
                                 : i < 3 ? 0
                                         : plans[i - 3].workspace_bytes();
        rows.push_back(
            {names[i], dim, n, timings[i], share, speedup, speedup * share, estimate, workspace});
      }
    }
  }
  return rows;
}

}  // namespace

int run_sparse(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format("{:<32} {:>4} {:>7} {:>9} {:>19} {:>9} {:>8} {:>9} {:>9} {:>10}\n",
                                 "bf16", "d", "tokens", "ms", "range", "executed", "speed-up",
                                 "per FLOP", "estimate", "memory");
  for (const Row& r : *rows) {
    json.push_back({{"name", r.name},
                    {"head_dim", r.head_dim},
                    {"tokens", r.tokens},
                    {"ms", r.ms.median},
                    {"ms_least", r.ms.least},
                    {"ms_most", r.ms.most},
                    {"executed", r.share},
                    {"speedup", r.speedup},
                    {"per_flop", r.per_flop},
                    {"estimate", r.estimate},
                    {"workspace_bytes", r.workspace}});
    text += fmt::format(
        "{:<32} {:>4} {:>7} {:>9.1f} {:>9.1f}-{:<9.1f} {:>8.1f}% {:>8.2f} {:>8.0f}% {:>8.1f}% "
        "{:>6.0f} MiB\n",
        r.name, r.head_dim, r.tokens, r.ms.median, r.ms.least, r.ms.most, 100 * r.share, r.speedup,
        100 * r.per_flop, 100 * r.estimate, static_cast<double>(r.workspace) / (1 << 20));
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace mi::tools
