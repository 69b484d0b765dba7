// Subcommands of mi-bench. Only options.cpp and main.cpp know the parser: its templates take most
// of what a file that includes it takes to compile.
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

// Adds every subcommand to the parser; the one chosen sets `run`, which gives the exit code.
void add_commands(CLI::App& app, BenchOptions& options, std::function<int()>& run);

int run_frontier(const BenchOptions& options);
int run_prefill(const BenchOptions& options);
int run_search(const BenchOptions& options);
// The machine and our kernels on it; no model.
int run_roof(const BenchOptions& options);
int run_attention(const BenchOptions& options);
int run_sparse(const BenchOptions& options);
int run_estimate(const BenchOptions& options);
int run_sweep(const BenchOptions& options);
int run_score(const BenchOptions& options);
int run_cuda(const BenchOptions& options);
int run_tensors(const BenchOptions& options);
[[nodiscard]] Status run_fit(const BenchOptions& options);

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
