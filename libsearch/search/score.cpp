#include "libsearch/search/score.h"

#include <algorithm>
#include <cmath>
#include <span>

#include <Eigen/Core>
#include <omp.h>

#include "libruntime/cost.h"
#include "libsearch/search/levels.h"

namespace mi::search {
namespace {

using kernels::kRowBlock;
using runtime::kEstimateGroup;

// Output error is scored on one row block in eight and on the last one, unless that is dense: a
// pass of P V for every family there, so that ten families together cost about half a dense
// attention. Short prompts are sampled more densely: four blocks at least.
int64_t error_stride(int64_t blocks) {
  return std::clamp<int64_t>(blocks / 4, 1, 8);
}

kernels::KeyValueRows rows_view(const LayerAttention& layer, int kv_head) {
  if (layer.k_bf16.data == nullptr) return {};
  return {.k = layer.k_bf16[kv_head].data,
          .v = layer.v_bf16[kv_head].data,
          .k_stride = layer.k_bf16.stride[1],
          .v_stride = layer.v_bf16.stride[1],
          .n_kv = layer.k_bf16.extent[1],
          .head_dim = static_cast<int>(layer.k_bf16.extent[2])};
}

// W_O^h as a Gram matrix: ||x W||^2 = x gram x^T for W = wo[:, head] transposed.
std::vector<float> gram_of(const LayerAttention& layer, int head, int head_dim) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  std::vector<float> gram(static_cast<size_t>(head_dim * head_dim));
  Eigen::Map<Matrix> out(gram.data(), head_dim, head_dim);
  if (layer.wo.data == nullptr) {
    out.setIdentity();
    return gram;
  }
  const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> wo(
      layer.wo.data + static_cast<int64_t>(head) * head_dim, layer.wo.extent[0], head_dim,
      Eigen::OuterStride<>(layer.wo.stride[0]));
  out.noalias() = wo.transpose() * wo;
  return gram;
}

double squared_norm(const float* x, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

// Sums over a group of row blocks of one head, for every candidate; added up in a fixed order.
struct LayerScorer::HeadSums {
  std::vector<double> recall, square, error, uniform, tiles;  // [candidates - 1]
  std::vector<float> block_recall;                            // [row_blocks, candidates - 1]
  std::vector<float> last;                                    // [candidates - 1]
  // The oracle's mass and keys in falling order of true column mass, summed over row blocks by
  // density bin (eight per octave).
  std::vector<std::pair<double, int64_t>> oracle;  // [kFloatBins]
  double error_rows = 0;
  double rest = 0;  // mass of the attention sink

  void reset(size_t count, int64_t blocks) {
    for (auto* values : {&recall, &square, &error, &uniform, &tiles}) values->assign(count, 0);
    block_recall.assign(count * static_cast<size_t>(blocks), 0);
    last.assign(count, 0);
    oracle.assign(kFloatBins, {});
    error_rows = 0;
    rest = 0;
  }
  // A row block is in one group only: its recall and the last block's are 0 elsewhere.
  void add(const HeadSums& other) {
    for (auto field : {&HeadSums::recall, &HeadSums::square, &HeadSums::error, &HeadSums::uniform,
                       &HeadSums::tiles})
      for (size_t i = 0; i < (this->*field).size(); ++i) (this->*field)[i] += (other.*field)[i];
    for (size_t i = 0; i < block_recall.size(); ++i) block_recall[i] += other.block_recall[i];
    for (size_t i = 0; i < last.size(); ++i) last[i] += other.last[i];
    for (size_t bin = 0; bin < kFloatBins; ++bin) {
      oracle[bin].first += other.oracle[bin].first;
      oracle[bin].second += other.oracle[bin].second;
    }
    error_rows += other.error_rows;
    rest += other.rest;
  }
};

struct LayerScorer::ThreadMemory {
  AlignedBuffer<float> estimates;  // [sources, 64, tokens]
  AlignedBuffer<float> estimate;   // [tokens] of one binning and row block
  std::vector<uint16_t> bins;      // [tokens] its bins
  std::vector<int32_t> bin_counts;
  AlignedBuffer<float> scratch;  // of estimators
  AlignedBuffer<char> kernel_scratch;
  AlignedBuffer<uint8_t> level;  // [families, 64, tokens]
  AlignedBuffer<float> mass;     // [candidates - 1, 64]
  AlignedBuffer<float> error;
  AlignedBuffer<float> column_mass;  // [tokens]
  std::vector<kernels::LevelFamily> families;
  std::vector<int32_t> counts;  // [64, level_counts] keys per level of each family
  Leveller leveller;
  std::vector<double> level_mass;
  std::vector<double> level_uniform;
};

// Estimates in bins, of families that differ in forced keys only.
struct Binning {
  std::vector<size_t> sources;  // the estimate is the largest of theirs
  std::vector<float> thresholds;
  LevelTable table;
  std::vector<size_t> families;
};

struct LayerScorer::Data {
  std::vector<std::unique_ptr<const runtime::Estimator>> estimators;  // [families]
  std::vector<std::unique_ptr<const runtime::Estimator>> sources;     // all that differ
  std::vector<Binning> binnings;
  std::vector<size_t> counts_at;    // [families] offset in a row block's counts
  std::vector<size_t> evidence_at;  // offset of each source in a head's evidence
  size_t evidence_floats = 0;
  AlignedBuffer<float> evidence;  // [heads, evidence_floats]
  size_t packed_bytes = 0;
  AlignedBuffer<std::byte> packed;  // [kv_heads, packed_bytes] of a bf16 pass
  std::vector<ThreadMemory> threads;
  int groups = 1;                    // of row blocks estimated together
  std::vector<HeadSums> sums;        // [groups, heads]
  std::vector<double> inverse_norm;  // [tokens] 1 / ||residual||^2
  size_t scored = 0;                 // candidates without dense
  size_t level_counts = 0;           // sum over families of levels + 1

  [[nodiscard]] std::byte* packed_keys(int kv_head) {
    return packed.data() + static_cast<size_t>(kv_head) * packed_bytes;
  }
  // As estimates and kernels see it; a bf16 pass is scored on estimates of packed keys, as a bf16
  // plan will make them.
  [[nodiscard]] kernels::AttentionHead head_view(const LayerAttention& layer, int head, int group) {
    const int g = head / group;
    return {.q = layer.q.data + head * layer.q.stride[0],
            .k = layer.k.data + g * layer.k.stride[0],
            .v = layer.v.data + g * layer.v.stride[0],
            .q_stride = layer.q.stride[1],
            .k_stride = layer.k.stride[1],
            .v_stride = layer.v.stride[1],
            .n_q = layer.q.extent[1],
            .n_kv = layer.k.extent[1],
            .head_dim = static_cast<int>(layer.q.extent[2]),
            .scale = layer.scale,
            .softcap = layer.softcap,
            .packed = layer.k_bf16.data == nullptr ? nullptr : packed_keys(g)};
  }
};

LayerScorer::LayerScorer(const CandidateSpace& space, const ScoreShape& shape,
                         const kernels::Backend& backend)
    : space_(space), shape_(shape), backend_(backend), data_(std::make_unique<Data>()) {
  const runtime::CallShape call{shape.tokens, shape.tokens, shape.head_dim};
  size_t scratch = 0;
  int wide = shape.head_dim;
  size_t most_bins = 0;
  int most_levels = 0;
  for (const Family& family : space.families) {
    runtime::EstimatorParams params = family.params;
    params.last = shape.last;
    data_->estimators.push_back(runtime::make_estimator(params));
    std::vector<size_t> own;
    for (const runtime::EstimatorParams& source : runtime::sources_of(params)) {
      size_t s = 0;
      while (s < data_->sources.size() && !(data_->sources[s]->params() == source)) ++s;
      own.push_back(s);
      if (s < data_->sources.size()) continue;
      const auto& estimator = data_->sources.emplace_back(runtime::make_estimator(source));
      scratch = std::max(scratch, estimator->scratch_floats(call));
      wide = std::max(wide, estimator->probability_dim(call));
      data_->evidence_at.push_back(data_->evidence_floats);
      data_->evidence_floats += (estimator->evidence_floats(call) + 15) / 16 * 16;
    }
    std::vector<float> thresholds;
    for (size_t c = 0; c < family.values.size(); ++c) thresholds.push_back(family.lambda(c));
    auto binning = std::find_if(
        data_->binnings.begin(), data_->binnings.end(),
        [&](const Binning& b) { return b.sources == own && b.thresholds == thresholds; });
    if (binning == data_->binnings.end()) {
      LevelTable table(thresholds);
      most_bins = std::max(most_bins, table.bins());
      binning = data_->binnings.insert(
          binning, Binning{std::move(own), std::move(thresholds), std::move(table), {}});
    }
    binning->families.push_back(data_->counts_at.size());
    data_->counts_at.push_back(data_->level_counts);
    data_->level_counts += family.values.size() + 1;
    most_levels = std::max(most_levels, static_cast<int>(family.values.size()));
  }
  data_->scored = space.candidates() - 1;
  data_->evidence.resize(data_->evidence_floats * static_cast<size_t>(shape.heads));
  const int64_t blocks = call.row_blocks();
  const auto group = static_cast<size_t>(std::min(blocks, kEstimateGroup));
  const auto tokens = static_cast<size_t>(shape.tokens);
  data_->threads.resize(static_cast<size_t>(shape.threads));
  for (ThreadMemory& memory : data_->threads) {
    memory.estimates.resize(data_->sources.size() * group * tokens);
    memory.estimate.resize(tokens);
    memory.scratch.resize(scratch);
    memory.kernel_scratch.resize(
        std::max({backend.scratch_bytes(wide),
                  backend.score_scratch_bytes(shape.head_dim, shape.tokens, most_levels),
                  backend.packed_scratch_bytes(shape.head_dim, shape.tokens),
                  backend.packed_scratch_bytes(wide, kRowBlock)}));
    memory.level.resize(space.families.size() * group * tokens);
    if (shape.extras) memory.mass.resize(data_->scored * kRowBlock);
    memory.error.resize(data_->scored * kRowBlock);
    memory.column_mass.resize(tokens);
    memory.counts.resize(group * data_->level_counts);
    memory.bins.resize(tokens);
    memory.bin_counts.resize(most_bins);
  }
  data_->groups = static_cast<int>((blocks + kEstimateGroup - 1) / kEstimateGroup);
  data_->sums.resize(static_cast<size_t>(shape.heads) * static_cast<size_t>(data_->groups));
  data_->inverse_norm.resize(tokens);
  data_->packed_bytes = (backend.packed_bytes(shape.head_dim, shape.tokens) + 63) / 64 * 64;
}

LayerScorer::~LayerScorer() = default;

std::vector<std::vector<CandidateScore>> LayerScorer::score(const LayerAttention& layer) {
  const int group = shape_.heads / shape_.kv_heads;
  const runtime::CallShape call{shape_.tokens, shape_.tokens, shape_.head_dim};
  const int64_t blocks = call.row_blocks();
  const auto sources = static_cast<int>(data_->sources.size());
  std::vector<std::vector<float>> grams(static_cast<size_t>(shape_.heads));
  std::vector<std::vector<CandidateScore>> scores(static_cast<size_t>(shape_.heads));
  const int64_t packed_tiles = layer.k_bf16.data == nullptr ? 0 : rows_view(layer, 0).tiles();
  if (packed_tiles > 0 && data_->packed.size() == 0)
    data_->packed.resize(static_cast<size_t>(shape_.kv_heads) * data_->packed_bytes);
#pragma omp parallel num_threads(shape_.threads)
  {
    ThreadMemory& memory = data_->threads[static_cast<size_t>(omp_get_thread_num())];
    if (layer.residual.data != nullptr) {
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < shape_.tokens; ++i)
        data_->inverse_norm[static_cast<size_t>(i)] =
            1 / std::max(1e-30, squared_norm(layer.residual.data + i * layer.residual.stride[0],
                                             layer.residual.extent[1]));
    }
#pragma omp for schedule(static) nowait
    for (int64_t unit = 0; unit < shape_.kv_heads * packed_tiles; ++unit) {
      const auto g = static_cast<int>(unit / packed_tiles);
      backend_.pack(rows_view(layer, g), unit % packed_tiles, data_->packed_keys(g));
    }
#pragma omp for schedule(dynamic)
    for (int h = 0; h < shape_.heads; ++h)
      grams[static_cast<size_t>(h)] = gram_of(layer, h, shape_.head_dim);
#pragma omp for schedule(dynamic)
    for (int unit = 0; unit < shape_.heads * sources; ++unit) {
      const auto s = static_cast<size_t>(unit % sources);
      const int h = unit / sources;
      data_->sources[s]->prepare(
          data_->head_view(layer, h, group), backend_,
          {data_->evidence.data() + static_cast<size_t>(h) * data_->evidence_floats +
               data_->evidence_at[s],
           memory.scratch.data(), memory.kernel_scratch.data()});
    }
    // Late groups see the most keys: longest first.
#pragma omp for schedule(dynamic)
    for (int unit = 0; unit < shape_.heads * data_->groups; ++unit) {
      const int h = unit % shape_.heads;
      const int64_t begin = (data_->groups - 1 - unit / shape_.heads) * kEstimateGroup;
      HeadSums& sums = data_->sums[static_cast<size_t>(unit)];
      sums.reset(data_->scored, blocks);
      score_group(layer, h, begin, std::min(blocks, begin + kEstimateGroup),
                  grams[static_cast<size_t>(h)].data(), memory, sums);
    }
#pragma omp for schedule(dynamic)
    for (int h = 0; h < shape_.heads; ++h) {
      HeadSums& total = data_->sums[static_cast<size_t>(h)];
      for (int g = 1; g < data_->groups; ++g)
        total.add(data_->sums[static_cast<size_t>(g) * static_cast<size_t>(shape_.heads) +
                              static_cast<size_t>(h)]);
      scores[static_cast<size_t>(h)].resize(data_->scored + 1);
      finish(total, scores[static_cast<size_t>(h)]);
    }
  }
  return scores;
}

void LayerScorer::score_group(const LayerAttention& layer, int head_idx, int64_t begin, int64_t end,
                              const float* gram, ThreadMemory& memory, HeadSums& sums) const {
  const kernels::AttentionHead head =
      data_->head_view(layer, head_idx, shape_.heads / shape_.kv_heads);
  const int64_t tokens = shape_.tokens;
  const int64_t blocks = head.row_blocks();
  const int64_t stride = error_stride(blocks);
  const size_t families = space_.families.size();
  const auto row_of = [&](size_t f, int64_t m) {  // of a family's levels, a source's estimates
    return (static_cast<int64_t>(f) * std::min(blocks, kEstimateGroup) + m - begin) * tokens;
  };
  const auto level_row = [&](size_t f, int64_t m) { return memory.level.data() + row_of(f, m); };
  const auto counts_row = [&](int64_t m) {
    return std::span(memory.counts)
        .subspan(static_cast<size_t>(m - begin) * data_->level_counts, data_->level_counts);
  };
  for (size_t s = 0; s < data_->sources.size(); ++s)
    data_->sources[s]->rows(
        head, backend_,
        {data_->evidence.data() + static_cast<size_t>(head_idx) * data_->evidence_floats +
             data_->evidence_at[s],
         memory.scratch.data(), memory.kernel_scratch.data()},
        begin, end, memory.estimates.data() + row_of(s, begin), tokens);
  const auto counts_of = [&](size_t f, int64_t m) {
    return counts_row(m).subspan(data_->counts_at[f], space_.families[f].values.size() + 1);
  };
  for (const Binning& binning : data_->binnings) {
    for (int64_t m = begin; m < end; ++m) {
      BinnedKeys keys{.table = &binning.table,
                      .e = memory.estimates.data() + row_of(binning.sources.front(), m),
                      .bin = memory.bins.data(),
                      .counts = std::span(memory.bin_counts).first(binning.table.bins()),
                      .keys = head.keys_end(m)};
      if (binning.sources.size() > 1) {
        float* e = memory.estimate.data();
        for (size_t i = 1; i < binning.sources.size(); ++i) {
          const float* other = memory.estimates.data() + row_of(binning.sources[i], m);
          for (int64_t j = 0; j < keys.keys; ++j) e[j] = std::max(keys.e[j], other[j]);
          keys.e = e;
        }
      }
      binning.table.assign(keys.e, keys.keys, memory.bins.data());
      count_bins(keys.bin, keys.keys, std::span(memory.bin_counts).first(binning.table.bins()));
      for (const size_t f : binning.families) {
        const auto unforced = runtime::unforced_keys(data_->estimators[f]->params(), head, m);
        memory.leveller.assign(keys, unforced.begin, unforced.end,
                               !space_.families[f].params.counts, level_row(f, m), counts_of(f, m));
      }
    }
  }

  for (int64_t m = begin; m < end; ++m) {
    const int rows = head.rows(m);
    const int64_t first = head.first_row(m);
    const int64_t keys = head.keys_end(m);
    const bool last = m == blocks - 1;
    const bool strided = m % stride == stride / 2;
    const bool sampled = strided || (last && shape_.last == 0);
    memory.families.clear();
    size_t at = 0;
    for (size_t f = 0; f < families; ++f) {
      memory.families.push_back(
          {level_row(f, m), static_cast<int>(space_.families[f].values.size()),
           counts_of(f, m).data(), shape_.extras ? memory.mass.data() + at * kRowBlock : nullptr,
           memory.error.data() + at * kRowBlock});
      at += space_.families[f].values.size();
    }
    // With an attention sink z the keys share exp(lse) / (exp(lse) + exp(z)) of a row's mass.
    const float* lse = layer.lse.data + head_idx * layer.lse.stride[0] + first;
    float lse_with_sink[kRowBlock];
    float rest[kRowBlock] = {};
    double rest_of_rows = 0;
    if (!layer.sinks.empty()) {
      const float sink = layer.sinks[static_cast<size_t>(head_idx)];
      for (int r = 0; r < rows; ++r) {
        rest[r] = 1 / (1 + std::exp(lse[r] - sink));
        rest_of_rows += static_cast<double>(rest[r]);
        lse_with_sink[r] = std::max(lse[r], sink) + std::log1p(std::exp(-std::abs(lse[r] - sink)));
      }
      lse = lse_with_sink;
      sums.rest += rest_of_rows;
    }
    float norm[kRowBlock];
    backend_.score({.head = head,
                    .rows = rows_view(layer, head_idx / (shape_.heads / shape_.kv_heads)),
                    .block = m,
                    .lse = lse,
                    .rest = layer.sinks.empty() ? nullptr : rest,
                    .column_mass = memory.column_mass.data(),
                    .families = memory.families,
                    .gram = sampled ? gram : nullptr,
                    .norm = norm},
                   memory.kernel_scratch.data());

    // The sampled blocks stand for `stride` each; the last one, if extra, for itself.
    double weight[kRowBlock] = {};
    if (sampled) {
      const double block_weight = strided ? static_cast<double>(stride) : 1.0;
      for (int r = 0; r < rows; ++r) {
        weight[r] = block_weight * (layer.residual.data != nullptr
                                        ? data_->inverse_norm[static_cast<size_t>(first + r)]
                                        : 1 / std::max(1e-30, static_cast<double>(norm[r])));
      }
      sums.error_rows += block_weight * rows;
    }
    at = 0;
    for (size_t f = 0; f < families; ++f) {
      const int levels = memory.families[f].levels;
      const auto counts = counts_of(f, m);
      memory.level_mass.resize(counts.size());
      sum_levels(level_row(f, m), memory.column_mass.data(), keys, memory.level_mass);
      int64_t selected = 0;
      double kept = rest_of_rows;
      for (int l = 0; l < levels; ++l, ++at) {
        selected += counts[static_cast<size_t>(l)];
        kept += memory.level_mass[static_cast<size_t>(l)];
        const double recall = std::min(kept, static_cast<double>(rows));
        sums.recall[at] += recall;
        sums.tiles[at] += static_cast<double>(runtime::tiles_for(selected));
        const auto mean = static_cast<float>(recall / rows);
        sums.block_recall[static_cast<size_t>(m) * data_->scored + at] = mean;
        if (last) sums.last[at] = mean;
        if (!sampled) continue;
        const float* error = memory.error.data() + at * kRowBlock;
        for (int r = 0; r < rows; ++r)
          sums.error[at] += weight[r] * std::max(0.0, static_cast<double>(error[r]));
      }
    }
    add_baselines(head, m, memory, counts_row(m), rest, sums);
  }
}

// What uniform attention and an oracle would keep; squares, where masses of rows are there.
void LayerScorer::add_baselines(const kernels::AttentionHead& head, int64_t m, ThreadMemory& memory,
                                std::span<const int32_t> all_counts, const float* rest,
                                HeadSums& sums) const {
  const int rows = head.rows(m);
  const int64_t first = head.first_row(m);
  const int64_t keys = head.keys_end(m);
  // Uniform attention gives each key 1/(i + 1) from every row i that sees it: all rows for keys
  // before the block, fewer and fewer for the block's own.
  double uniform_mass[kRowBlock] = {};  // of the block's own keys; that of the first is everyone's
  double rows_below = 0;
  for (int r = rows - 1; r >= 0; --r) {
    rows_below += 1 / static_cast<double>(first + r + 1);
    uniform_mass[r] = rows_below;
  }
  size_t at = 0;
  size_t counts_at = 0;
  for (const kernels::LevelFamily& family : memory.families) {
    const auto counts = all_counts.subspan(counts_at, static_cast<size_t>(family.levels) + 1);
    counts_at += counts.size();
    memory.level_uniform.assign(counts.size(), 0);
    for (size_t l = 0; l < counts.size(); ++l)
      memory.level_uniform[l] = static_cast<double>(counts[l]) * uniform_mass[0];
    for (int64_t j = first; j < keys; ++j)
      memory.level_uniform[family.level[j]] += uniform_mass[j - first] - uniform_mass[0];
    double recall[kRowBlock];
    std::copy(rest, rest + kRowBlock, recall);
    double uniform = 0;
    for (int l = 0; l < family.levels; ++l, ++at) {
      uniform += memory.level_uniform[static_cast<size_t>(l)];
      sums.uniform[at] += uniform;
      if (!shape_.extras) continue;
      for (int r = 0; r < rows; ++r) {
        recall[r] += static_cast<double>(family.mass[l * kRowBlock + r]);
        const double lost = std::max(0.0, 1 - recall[r]);
        sums.square[at] += lost * lost;
      }
    }
  }
  for (int64_t j = 0; j < keys; ++j) {
    const float mass = memory.column_mass[static_cast<size_t>(j)];
    auto& bin = sums.oracle[kFloatBins - 1 - float_bin(mass)];
    bin.first += static_cast<double>(mass);
    ++bin.second;
  }
}

void LayerScorer::finish(const HeadSums& sums, std::vector<CandidateScore>& scores) const {
  const runtime::CallShape call{shape_.tokens, shape_.tokens, shape_.head_dim};
  const auto blocks = static_cast<size_t>(call.row_blocks());
  const auto rows = static_cast<double>(shape_.tokens);
  std::vector<float> sorted(blocks);
  for (size_t c = 0; c < data_->scored; ++c) {
    CandidateScore& score = scores[c];
    const CandidateId id = candidate_id(space_, c);
    score.recall = sums.recall[c] / rows;
    score.square = sums.square[c] / rows;
    score.recall_last = static_cast<double>(sums.last[c]);
    score.error = sums.error_rows > 0 ? sums.error[c] / sums.error_rows : 0;
    score.uniform_recall = sums.uniform[c] / rows;
    for (size_t m = 0; m < blocks; ++m) sorted[m] = sums.block_recall[m * data_->scored + c];
    std::sort(sorted.begin(), sorted.end());
    score.recall_min = static_cast<double>(sorted.front());
    score.recall_p05 = static_cast<double>(sorted[(blocks - 1) / 20]);
    score.tiles = sums.tiles[c];
    score.share = runtime::cost_share(call, static_cast<int64_t>(sums.tiles[c]),
                                      data_->estimators[id.family]->flops(call));
    // The oracle spends the same number of keys on the largest true column masses.
    double budget = sums.tiles[c] * kernels::kKeyTile;
    double mass = sums.rest;
    for (const auto& [bin_mass, bin_keys] : sums.oracle) {
      if (bin_keys == 0) continue;
      mass += std::min(1.0, budget / static_cast<double>(bin_keys)) * bin_mass;
      budget -= static_cast<double>(bin_keys);
      if (budget <= 0) break;
    }
    score.oracle_lost = std::max(0.0, 1 - mass / rows);
  }
  CandidateScore& dense = scores.back();
  dense = {};
  dense.recall = dense.recall_p05 = dense.recall_min = dense.recall_last = 1;
  dense.uniform_recall = dense.share = 1;
  dense.tiles = static_cast<double>(runtime::dense_tiles(call));
}

}  // namespace mi::search
