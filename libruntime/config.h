// The head-config: which pattern every head runs, with which parameters, and how good that was
// measured to be. One YAML file (schema mi.head_config), read strictly, written canonically.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::runtime {

enum class Pattern { dense, a_shape, vertical_slash, block_sparse, stripe, stripe_vertical_slash };
[[nodiscard]] std::string_view to_string(Pattern pattern);  // "stripe+vertical_slash", ...
[[nodiscard]] std::optional<Pattern> pattern_from_string(std::string_view name);

// block_sparse: how a key block's mass is estimated.
enum class BlockEstimate { pooled, antidiagonal };
[[nodiscard]] std::string_view to_string(BlockEstimate estimate);
// Strides of the antidiagonal estimate that divide a block: 8 or 16.
[[nodiscard]] constexpr bool is_stride(int64_t stride) {
  return stride == 8 || stride == 16;
}

// A parameter given once for all lengths (key 0) or per calibrated prompt length.
using PerLength = std::map<int64_t, double>;

struct HeadEntry {
  Pattern pattern = Pattern::dense;
  BlockEstimate estimate = BlockEstimate::pooled;  // block_sparse only
  int stride = 16;                                 // block_sparse antidiagonal: 8 or 16
  int64_t sink = 0;                                // first keys every row attends
  PerLength local;     // keys before the row block that are always attended; a_shape: the window
  PerLength density;   // threshold on the estimated mass a row block gives to a key
  PerLength share;     // cost as a share of dense: alone what to spend; beside a threshold a cap,
                       // pooled over the layer and with what earlier layers left
  PerLength vertical;  // published counts form of vertical_slash
  PerLength slash;
  PerLength blocks;   // published counts form of block_sparse
  double recall = 0;  // mean over the calibration samples
  friend bool operator==(const HeadEntry&, const HeadEntry&) = default;
};

struct SampleNote {
  std::string source;
  int64_t tokens = 0;
  std::string sha256;
  friend bool operator==(const SampleNote&, const SampleNote&) = default;
};

struct HeldOut {
  double recall_mean = 0;
  double output_error = 0;  // mean over layers of the relative squared error added to the stream
  double logit_kl = 0;      // KL(dense || sparse) per token, nats
  double top1_agreement = 0;
  std::map<int64_t, double> achieved;  // share executed, per length
  friend bool operator==(const HeldOut&, const HeldOut&) = default;
};

struct HeadConfig {
  struct Model {
    std::string name, architecture;
    int layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
    double rope_theta = 0;
    double scale = 0;    // multiplies q.k; 0: 1/sqrt(head_dim)
    double softcap = 0;  // of scores; 0: none
    // Which of the model's layers these are, [layers] rising, where others see a window of keys
    // only and have no entry; empty: all.
    std::vector<int> attention_layers = {};
    std::string fingerprint;
    friend bool operator==(const Model&, const Model&) = default;
  } model;
  struct Producer {
    std::string tool, backend, options;
    uint64_t seed = 0;
    friend bool operator==(const Producer&, const Producer&) = default;
  } producer;
  struct Calibration {
    std::vector<int64_t> lengths;
    std::vector<SampleNote> samples, held_out;
    friend bool operator==(const Calibration&, const Calibration&) = default;
  } calibration;
  struct Limit {
    double share = 1;
    std::map<int64_t, double> achieved;  // largest over the samples, per length
    std::string objective, allocation;
    double gap = 0;   // of the loss and a lower bound on that of any allocation within the limit
    double loss = 0;  // what the objective sums up to; 0: not recorded
    friend bool operator==(const Limit&, const Limit&) = default;
  } limit;
  struct Quality {
    double recall_mean = 0, recall_p05 = 0, recall_min = 0, recall_last = 0;
    std::optional<HeldOut> held_out;
    friend bool operator==(const Quality&, const Quality&) = default;
  } quality;
  std::vector<std::string> warnings;  // what its making found suspicious, a line each
  struct Kernel {
    int block = 64, tile = 64;
    int64_t last = 64;        // the prompt's last rows that run dense
    int64_t dense_below = 0;  // with fewer keys a sparse head may run dense (resolve_head)
    friend bool operator==(const Kernel&, const Kernel&) = default;
  } kernel;
  std::vector<std::vector<HeadEntry>> layers;  // [layers][heads]
  friend bool operator==(const HeadConfig&, const HeadConfig&) = default;
};

// What q.k is multiplied by; `scale` as a model names it, 0: 1/sqrt(head_dim).
[[nodiscard]] inline double attention_scale(double scale, int head_dim) {
  return scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(head_dim));
}

inline constexpr int kHeadConfigVersion = 1;

// Errors are Code::schema with "file:line:column: what was found, what was expected".
[[nodiscard]] Result<HeadConfig> load_config(const std::filesystem::path& path);
[[nodiscard]] Result<HeadConfig> parse_config(std::string_view yaml, std::string_view file_name);
// Canonical text: parse(dump(c)) == c and dump(parse(dump(c))) == dump(c), byte for byte.
[[nodiscard]] std::string dump_config(const HeadConfig& config);
// Writes a temporary file beside it, syncs, renames; on failure an earlier file is left as it was.
[[nodiscard]] Status save_config(const HeadConfig& config, const std::filesystem::path& path);

}  // namespace mi::runtime
