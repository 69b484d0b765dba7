#include "libsearch/search/cuda/device_attention.h"

#include <algorithm>
#include <span>
#include <utility>

#include "libruntime/cost.h"
#include "libruntime/cuda/head_rules.h"
#include "libsearch/search/planned_attention.h"

namespace mi::search {
namespace {

constexpr double kNothing = 0;

}  // namespace

Status DeviceAttention::add_chunk(const runtime::HeadConfig& config,
                                  const runtime::PlanShape& shape,
                                  kernels::cuda::DeviceStream& stream) {
  MI_TRY(const auto complete, runtime::complete_shape(config, shape));
  MI_TRY(auto heads, runtime::plan_heads(config, complete));
  MI_TRY(auto plan, runtime::DevicePlan::make(config, shape));
  Chunk chunk{std::move(plan), std::move(heads), complete};
  MI_TRY(chunk.table, memory_.room<std::byte>(chunk.plan.table_bytes()));
  MI_TRY(chunk.unspent, memory_.room<double>(1));
  MI_TRY(chunk.reports,
         memory_.room<kernels::cuda::HeadReport>(static_cast<size_t>(complete.heads)));
  MI_CHECK(stream.run([&](CUstream_st* on) { return chunk.plan.upload(chunk.table, on); }));
  chunk.weight = static_cast<double>(runtime::dense_tiles({shape.n_q, shape.n_kv, shape.head_dim}));
  for (const std::string& note : chunk.plan.notes())
    if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
  chunks_.push_back(std::move(chunk));
  return {};
}

Result<DeviceAttention> DeviceAttention::make(const runtime::HeadConfig& config, int64_t tokens,
                                              int64_t chunk) {
  const runtime::HeadConfig::Model& model = config.model;
  DeviceAttention made;
  MI_TRY(auto stream, kernels::cuda::DeviceStream::make());
  const int64_t step = chunk > 0 ? chunk : tokens;
  double all_tiles = 0;
  size_t workspace = 0;
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t rows = std::min(step, tokens - begin);
    MI_CHECK(made.add_chunk(config,
                            {.n_q = rows,
                             .n_kv = begin + rows,
                             .heads = model.heads,
                             .kv_heads = model.kv_heads,
                             .head_dim = model.head_dim,
                             .element = runtime::Element::bf16,
                             .prompt_tokens = tokens},
                            stream));
    all_tiles += made.chunks_.back().weight;
    workspace = std::max(workspace, made.chunks_.back().plan.workspace_bytes());
  }
  for (Chunk& of : made.chunks_) of.weight /= all_tiles;
  MI_TRY(made.workspace_, made.memory_.room<std::byte>(workspace));
  MI_TRY(made.lse_, made.memory_.room<float>(static_cast<size_t>(model.heads * tokens)));
  return made;
}

Status DeviceAttention::run(const DeviceLayerQkv& layer, kernels::cuda::Strided<bf16> o,
                            CUstream_st* stream) const {
  const int64_t tokens = layer.tensors.n_q;
  for (const Chunk& chunk : chunks_) {
    if (layer.layer == 0)
      MI_CHECK(kernels::cuda::upload(reinterpret_cast<std::byte*>(chunk.unspent), &kNothing,
                                     sizeof(kNothing), stream));
    const int64_t begin = chunk.shape.n_kv - chunk.shape.n_q;
    kernels::cuda::Sequence<bf16> rows = layer.tensors;
    rows.q.data = rows.q.row(begin);
    rows.o = o;
    rows.o.data = rows.o.row(begin);
    rows.lse = lse_ + begin;
    rows.lse_head_stride = tokens;
    MI_CHECK(chunk.plan.run(layer.layer, rows,
                            {chunk.table, workspace_, chunk.unspent, chunk.reports}, stream));
  }
  return {};
}

Result<std::vector<runtime::HeadStats>> DeviceAttention::stats(int layer) const {
  std::vector<runtime::HeadStats> sums;
  for (const Chunk& chunk : chunks_) {
    const auto& heads = chunk.heads.layers[static_cast<size_t>(layer)];
    std::vector<kernels::cuda::HeadReport> reports(heads.size());
    MI_CHECK(
        kernels::cuda::download(reports.data(), chunk.reports, std::span(reports).size_bytes()));
    sums.resize(heads.size());
    for (size_t h = 0; h < heads.size(); ++h)
      add(runtime::stats_of(heads[h], reports[h], chunk.shape), chunk.weight, sums[h]);
  }
  return sums;
}

}  // namespace mi::search
