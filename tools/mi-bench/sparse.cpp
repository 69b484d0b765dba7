// Sparse bf16 attention against our own dense: aligned runs and gathered single keys with the
// selection given (the kernel alone), and the stripe pattern with everything included.
#include <bit>
#include <cmath>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "libruntime/plan.h"
#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/timing.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

constexpr int kHeads = 8;
constexpr int kKvHeads = 2;
constexpr double kDensity = 0.15;

// Keys of every row block and head: `run` keys in a row, the block's own always among them.
std::vector<uint64_t> make_selection(int64_t n, int64_t run, uint64_t seed) {
  const int64_t blocks = n / kernels::kRowBlock;
  const int64_t words = kernels::bitmap_words(n);
  std::vector<uint64_t> all(static_cast<size_t>(kHeads * blocks * words));
  std::mt19937_64 engine(seed);
  for (int64_t row = 0; row < kHeads * blocks; ++row) {
    uint64_t* bits = all.data() + row * words;
    const int64_t own = row % blocks;
    bits[own] = ~uint64_t{0};
    const auto wanted = static_cast<int64_t>(kDensity * static_cast<double>((own + 1) * 64));
    for (int64_t held = 64; held < wanted;) {
      const auto at = static_cast<int64_t>(engine() % static_cast<uint64_t>(own * 64 / run)) * run;
      const uint64_t mask = run == 64 ? ~uint64_t{0} : uint64_t{1} << (at % 64);
      held += std::popcount(mask & ~bits[at / 64]);
      bits[at / 64] |= mask;
    }
  }
  return all;
}

struct Problem {
  int64_t n;
  int dim, threads;
  const kernels::Backend& backend;
  Tensor<bf16, 3> q, k, v, o;
  Problem(int64_t tokens, int head_dim, int of_threads, const kernels::Backend& with, uint64_t seed)
      : n(tokens),
        dim(head_dim),
        threads(of_threads),
        backend(with),
        q({kHeads, n, dim}),
        k({kKvHeads, n, dim}),
        v({kKvHeads, n, dim}),
        o({kHeads, n, dim}) {
    fill_random(q, seed);
    fill_random(k, seed + 1);
    fill_random(v, seed + 2);
  }

  // All heads over given selections, packing included; returns executed tiles.
  int64_t run_selection(const std::vector<uint64_t>& selection) {
    const size_t packed_bytes = backend.packed_bytes(dim, n);
    const size_t scratch_bytes = (backend.packed_scratch_bytes(dim, n) + 63) / 64 * 64;
    if (packed.size() == 0) {
      packed.resize(kKvHeads * packed_bytes);
      scratch.resize(static_cast<size_t>(threads) * scratch_bytes);
    }
    const int64_t blocks = n / kernels::kRowBlock;
    const int64_t words = kernels::bitmap_words(n);
    int64_t tiles = 0;
#pragma omp parallel num_threads(threads) reduction(+ : tiles)
    {
#pragma omp for schedule(static)
      for (int64_t unit = 0; unit < kKvHeads * blocks; ++unit)
        backend.pack(group(static_cast<int>(unit / blocks) * (kHeads / kKvHeads)).rows,
                     unit % blocks,
                     packed.data() + static_cast<size_t>(unit / blocks) * packed_bytes);
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < kHeads * blocks; ++unit) {
        const int64_t block = blocks - 1 - unit / kHeads;
        const int64_t h = unit % kHeads;
        tiles += backend.attend_packed(
            group(static_cast<int>(h)), block, selection.data() + (h * blocks + block) * words,
            scratch.data() + static_cast<size_t>(omp_get_thread_num()) * scratch_bytes);
      }
    }
    return tiles;
  }

  [[nodiscard]] kernels::PackedGroup group(int h) {
    const int64_t g = h / (kHeads / kKvHeads);
    kernels::PackedGroup result;
    result.rows = {k.view()[g].data, v.view()[g].data, dim, dim, n, dim};
    result.packed = packed.data() + static_cast<size_t>(g) * backend.packed_bytes(dim, n);
    result.heads = 1;
    result.q[0] = q.view()[h].data;
    result.o[0] = o.view()[h].data;
    result.q_stride = result.o_stride = dim;
    result.n_q = n;
    result.scale = 1 / std::sqrt(static_cast<float>(dim));
    return result;
  }

  AlignedBuffer<std::byte> packed, scratch;
};

struct PlanRun {
  runtime::Plan plan;
  AlignedBuffer<std::byte> workspace;
  std::vector<runtime::HeadStats> stats = std::vector<runtime::HeadStats>(kHeads);
  explicit PlanRun(runtime::Plan made) : plan(std::move(made)), workspace(plan.workspace_bytes()) {}
  Status run(Problem& p) {
    runtime::Unspent unspent;
    return plan.run(0, std::as_const(p.q).view(), std::as_const(p.k).view(),
                    std::as_const(p.v).view(), p.o.view(), {}, workspace.data(), stats, unspent);
  }
  [[nodiscard]] int64_t tiles() const {
    int64_t total = 0;
    for (const auto& head : stats) total += head.tiles;
    return total;
  }
};

Result<PlanRun> make_plan(const Problem& p, const runtime::HeadEntry& entry) {
  MI_TRY(auto plan, runtime::Plan::make(one_layer(kHeads, kKvHeads, p.dim, entry),
                                        {.n_q = p.n,
                                         .n_kv = p.n,
                                         .heads = kHeads,
                                         .kv_heads = kKvHeads,
                                         .head_dim = p.dim,
                                         .element = runtime::Element::bf16},
                                        p.backend, p.threads));
  return PlanRun(std::move(plan));
}

struct Row {
  const char* name;
  int head_dim;
  int64_t tokens;
  Timing ms;
  double share;     // executed tiles of dense
  double speedup;   // against dense
  double per_flop;  // of dense's rate
};

Result<std::vector<Row>> measure(const BenchOptions& options) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  std::vector<Row> rows;
  for (const int dim : {64, 128}) {
    for (const int64_t length : options.lengths) {
      const int64_t n = length / kernels::kRowBlock * kernels::kRowBlock;
      Problem problem(n, dim, threads, *backend, options.seed);
      runtime::HeadEntry stripe;
      stripe.pattern = runtime::Pattern::stripe;
      // Its threshold is found per prompt, so the estimates are made twice.
      stripe.share[0] = kDensity;
      MI_TRY(PlanRun dense, make_plan(problem, {}));
      MI_TRY(PlanRun stripes, make_plan(problem, stripe));
      const auto runs = make_selection(n, 64, options.seed + 3);
      const auto single = make_selection(n, 1, options.seed + 4);
      Status failed;
      int64_t tiles[4] = {};
      const auto timings = alternate({[&] {
                                        if (Status s = dense.run(problem); !s) failed = s;
                                      },
                                      [&] { tiles[1] = problem.run_selection(runs); },
                                      [&] { tiles[2] = problem.run_selection(single); },
                                      [&] {
                                        if (Status s = stripes.run(problem); !s) failed = s;
                                      }},
                                     options.rounds);
      MI_CHECK(failed);
      tiles[0] = dense.tiles();
      tiles[3] = stripes.tiles();
      const char* names[] = {"dense", "runs of 64", "single keys", "stripe, all included"};
      for (size_t i = 0; i < 4; ++i) {
        const double share = static_cast<double>(tiles[i]) / static_cast<double>(tiles[0]);
        const double speedup = timings[0].median / timings[i].median;
        rows.push_back({names[i], dim, n, timings[i], share, speedup, speedup * share});
      }
    }
  }
  return rows;
}

int run_sparse(const BenchOptions& options) {
  const auto rows = measure(options);
  if (!rows) return report(kBench, rows.error());
  auto json = nlohmann::json::array();
  std::string text = fmt::format("{:<20} {:>4} {:>7} {:>9} {:>19} {:>9} {:>8} {:>9}\n", "bf16", "d",
                                 "tokens", "ms", "range", "executed", "speed-up", "per FLOP");
  for (const Row& r : *rows) {
    json.push_back({{"name", r.name},
                    {"head_dim", r.head_dim},
                    {"tokens", r.tokens},
                    {"ms", r.ms.median},
                    {"ms_least", r.ms.least},
                    {"ms_most", r.ms.most},
                    {"executed", r.share},
                    {"speedup", r.speedup},
                    {"per_flop", r.per_flop}});
    text +=
        fmt::format("{:<20} {:>4} {:>7} {:>9.1f} {:>9.1f}-{:<9.1f} {:>8.1f}% {:>8.2f} {:>8.0f}%\n",
                    r.name, r.head_dim, r.tokens, r.ms.median, r.ms.least, r.ms.most, 100 * r.share,
                    r.speedup, 100 * r.per_flop);
  }
  return report(kBench, print_result(options.json ? json.dump(2) + "\n" : text));
}

}  // namespace

void add_sparse(CLI::App& app, BenchOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "sparse", "Sparse bf16 attention at 15 % of the keys against our own dense attention");
  add_timing(*command, options);
  add_lengths(*command, options, {8192, 32768});
  command->callback([&] { run = [&] { return run_sparse(options); }; });
}

}  // namespace mi::tools
