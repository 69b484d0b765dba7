// Subcommands of mi-bench. Each adds itself to the parser; `run` is called when it was chosen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/data/sample.h"
#include "libsearch/search/score_table.h"

namespace CLI {
class App;
}

namespace mi::tools {

inline constexpr std::string_view kBench = "mi-bench";

struct BenchOptions {
  std::string model;
  std::string config;
  std::string recipe;
  std::vector<std::string> limits;
  std::vector<int64_t> lengths;
  int64_t tokens = 8192;
  std::string tokens_file;
  std::string logits_file;
  uint64_t seed = 0;
  int threads = 0;
  std::string backend;
  bool json = false;
  int rounds = 5;
  std::string folder;
  std::string element = "bf16";
  double share = 0;
  std::string output;
  std::vector<int> head_dims = {64, 128};
  int64_t dense_below = 640;    // what mi-search writes without a profile
  std::optional<double> dense;  // GFLOP/s of a host engine's dense attention
};
void add_frontier(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_prefill(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_search(CLI::App& app, BenchOptions& options, std::function<int()>& run);
// The machine and our kernels on it; no model.
void add_roof(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_attention(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_sparse(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_estimate(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_sweep(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_score(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_tensors(CLI::App& app, BenchOptions& options, std::function<int()>& run);
void add_fit(CLI::App& app, BenchOptions& options, std::function<int()>& run);

// --model, --threads, --backend, --seed and --json of every subcommand.
void add_common(CLI::App& command, BenchOptions& options);
// The same but --model, and --rounds.
void add_timing(CLI::App& command, BenchOptions& options);
// --threads, --json and --rounds.
void add_machine_timing(CLI::App& command, BenchOptions& options);
// --lengths of a subcommand with its own default.
void add_lengths(CLI::App& command, BenchOptions& options, const std::vector<int64_t>& standard,
                 int64_t least = 128);
void add_head_dims(CLI::App& command, BenchOptions& options);
void add_tokens_file(CLI::App& command, BenchOptions& options);
[[nodiscard]] int threads_of(const BenchOptions& options);
[[nodiscard]] Result<search::ComputeOptions> compute_options(const BenchOptions& options);
// A model of one attention layer whose heads all run `entry`.
[[nodiscard]] runtime::HeadConfig one_layer(int heads, int kv_heads, int head_dim,
                                            const runtime::HeadEntry& entry);
[[nodiscard]] Status write_bytes(const std::filesystem::path& path,
                                 std::span<const std::byte> bytes);
// An opened model whose tokenizer is there.
[[nodiscard]] Result<std::unique_ptr<search::Model>> open_with_tokenizer(
    const BenchOptions& options);
// Tokens of --tokens-file, or of the recipe's texts one after the other.
[[nodiscard]] Result<search::Sample> prompt(const BenchOptions& options, const search::Model& model,
                                            int64_t tokens);

}  // namespace mi::tools
