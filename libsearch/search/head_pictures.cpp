#include "libsearch/search/head_pictures.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "kernels/backend.h"
#include "libruntime/resolve.h"
#include "libsearch/search/score_table.h"

namespace mi::search {
namespace {

using kernels::kRowBlock;
using runtime::kEstimateGroup;

// Six bits of mantissa, and 0 below what can be seen: a third of the bytes once deflated.
float rounded(double value) {
  if (value < 0x1p-20) return 0;
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  return std::bit_cast<float>((bits + 0x10000U) & 0xfffe0000U);
}

// The cell of a row block or key, counted in row blocks: cells divide them evenly.
struct Cells {
  int64_t blocks = 0;
  int64_t count = 0;
  [[nodiscard]] int64_t of_block(int64_t block) const { return block * count / blocks; }
};

// One head's picture, in sums.
struct Drawing {
  std::vector<double> mass, lost, taken, causal;  // [cells, cells]
  std::vector<double> rows;                       // [cells]
  explicit Drawing(size_t cells)
      : mass(cells * cells), lost(mass), taken(mass), causal(mass), rows(cells) {}
};

void add_block(const kernels::AttentionHead& head, int64_t block, const Cells& cells,
               const float* column_mass, const uint64_t* words, Drawing& drawing) {
  const int64_t row = cells.of_block(block);
  drawing.rows[static_cast<size_t>(row)] += head.rows(block);
  const int64_t keys = head.keys_end(block);
  for (int64_t w = 0; w * 64 < keys; ++w) {
    const auto cell = static_cast<size_t>(row * cells.count + cells.of_block(w));
    for (int64_t j = w * 64; j < std::min(keys, w * 64 + 64); ++j) {
      const auto mass = static_cast<double>(column_mass[j]);
      const bool taken = (words[w] >> (static_cast<uint64_t>(j) % 64) & 1U) != 0;
      drawing.mass[cell] += mass;
      drawing.causal[cell] += 1;
      if (taken)
        drawing.taken[cell] += 1;
      else
        drawing.lost[cell] += mass;
    }
  }
}

void draw_head(const kernels::AttentionHead& head, const float* lse,
               const runtime::ResolvedHead& resolved, const kernels::Backend& backend,
               const Cells& cells, Drawing& drawing) {
  const auto estimator = runtime::make_estimator(resolved.params);
  const runtime::CallShape call{head.n_q, head.n_kv, head.head_dim};
  const int64_t words_each = kernels::bitmap_words(head.n_kv);
  const int64_t group = std::min(kEstimateGroup, cells.blocks);
  const int wide = std::max(head.head_dim, estimator->probability_dim(call));
  AlignedBuffer<float> evidence(estimator->evidence_floats(call));
  AlignedBuffer<float> scratch(estimator->scratch_floats(call));
  AlignedBuffer<float> estimates(static_cast<size_t>(group * head.n_kv));
  AlignedBuffer<float> column_mass(static_cast<size_t>(head.n_kv));
  AlignedBuffer<char> kernel_scratch(std::max(
      backend.scratch_bytes(wide), backend.score_scratch_bytes(head.head_dim, head.n_kv, 0)));
  std::vector<uint64_t> words(static_cast<size_t>(cells.blocks * words_each));
  std::vector<int64_t> tiles(static_cast<size_t>(cells.blocks));
  const runtime::EstimatorMemory memory{evidence.data(), scratch.data(), kernel_scratch.data(),
                                        estimates.data()};
  estimator->prepare(head, backend, memory);
  for (int64_t begin = 0; begin < cells.blocks; begin += group)
    estimator->select(head, backend, memory, begin, std::min(cells.blocks, begin + group),
                      resolved.lambda, {words.data(), tiles.data()});
  for (int64_t m = 0; m < cells.blocks; ++m) {
    backend.score({.head = head,
                   .rows = {},
                   .block = m,
                   .lse = lse + head.first_row(m),
                   .column_mass = column_mass.data(),
                   .families = {}},
                  kernel_scratch.data());
    add_block(head, m, cells, column_mass.data(), words.data() + m * words_each, drawing);
  }
}

}  // namespace

Result<PictureTaker> PictureTaker::make(const runtime::HeadConfig& config, const Sample& sample,
                                        const ComputeOptions& options) {
  const int64_t tokens = sample.length();
  for (const auto& layer : config.layers)
    for (const runtime::HeadEntry& entry : layer) {
      MI_TRY(const auto resolved, runtime::resolve_head(entry, config.kernel, tokens));
      if (resolved.spend_share)
        return fail(Code::unsupported,
                    fmt::format("pictures: {} tokens lie outside the calibrated lengths", tokens));
    }
  PictureTaker taker(options);
  HeadPictures& pictures = taker.pictures_;
  pictures.source = sample.source;
  pictures.tokens = tokens;
  pictures.cells = std::min(kPictureCells, (tokens + kRowBlock - 1) / kRowBlock);
  pictures.config = config;
  const auto size = static_cast<size_t>(int64_t{config.model.layers} * config.model.heads *
                                        pictures.cells * pictures.cells);
  for (auto& plane : pictures.planes) plane.resize(size);
  return taker;
}

void PictureTaker::draw(const LayerQkv& layer, TensorView<const float, 2> lse) {
  const runtime::HeadConfig::Model& model = pictures_.config.model;
  const auto scale = static_cast<float>(runtime::attention_scale(model.scale, model.head_dim));
  const int64_t heads = layer.q.extent[0];
  const int64_t group = heads / layer.k.extent[0];
  const Cells cells{(pictures_.tokens + kRowBlock - 1) / kRowBlock, pictures_.cells};
  const auto area = static_cast<size_t>(cells.count * cells.count);
#pragma omp parallel for schedule(dynamic) num_threads(options_->threads)
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t g = h / group;
    const kernels::AttentionHead head{.q = layer.q[h].data,
                                      .k = layer.k[g].data,
                                      .v = layer.v[g].data,
                                      .q_stride = layer.q.stride[1],
                                      .k_stride = layer.k.stride[1],
                                      .v_stride = layer.v.stride[1],
                                      .n_q = layer.q.extent[1],
                                      .n_kv = layer.k.extent[1],
                                      .head_dim = static_cast<int>(layer.q.extent[2]),
                                      .scale = scale,
                                      .softcap = static_cast<float>(model.softcap)};
    const auto resolved = runtime::resolve_head(
        pictures_.config.layers[static_cast<size_t>(layer.layer)][static_cast<size_t>(h)],
        pictures_.config.kernel, pictures_.tokens);
    Drawing drawing(static_cast<size_t>(cells.count));
    draw_head(head, lse[h].data, *resolved, options_->backend->f32(), cells, drawing);
    const size_t at = (static_cast<size_t>(layer.layer * heads + h)) * area;
    for (size_t i = 0; i < area; ++i) {
      if (drawing.causal[i] == 0) continue;
      const double rows = drawing.rows[i / static_cast<size_t>(cells.count)];
      pictures_.planes[HeadPictures::mass][at + i] = rounded(drawing.mass[i] / rows);
      pictures_.planes[HeadPictures::lost][at + i] = rounded(drawing.lost[i] / rows);
      pictures_.planes[HeadPictures::taken][at + i] = rounded(drawing.taken[i] / drawing.causal[i]);
    }
  }
}

}  // namespace mi::search
