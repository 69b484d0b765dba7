#include "tools/mi-bench/cuda/plan_run.h"

#include <cmath>
#include <utility>

#include "tools/mi-bench/commands.h"
#include "tools/mi-bench/layer.h"

namespace mi::tools {

using kernels::cuda::DeviceBuffer;
using kernels::cuda::DeviceStream;
using kernels::cuda::HeadReport;
using kernels::cuda::WorkItem;

Result<PlanRun> PlanRun::make(const Tensors& tensors, int head_dim, double density,
                              DeviceStream& stream) {
  runtime::HeadEntry entry;
  entry.pattern = runtime::Pattern::stripe;
  entry.density[0] = density;
  const runtime::HeadConfig config = one_layer(kHeads, kKvHeads, head_dim, entry);
  const runtime::PlanShape shape{.n_q = tensors.n_q,
                                 .n_kv = tensors.n_kv,
                                 .heads = kHeads,
                                 .kv_heads = kKvHeads,
                                 .head_dim = head_dim,
                                 .element = runtime::Element::bf16};
  MI_TRY(auto plan, runtime::DevicePlan::make(config, shape));
  MI_TRY(auto layers, runtime::DeviceLayers::make(config, shape, {}));
  PlanRun made(tensors, std::move(plan), std::move(layers));
  MI_TRY(made.table_, DeviceBuffer::make(made.plan_.table_bytes()));
  MI_TRY(made.workspace_, DeviceBuffer::make(made.plan_.workspace_bytes()));
  MI_TRY(made.unspent_, DeviceBuffer::make(sizeof(double)));
  MI_TRY(made.reports_, DeviceBuffer::make(kHeads * sizeof(HeadReport)));
  MI_CHECK(stream.run([&](CUstream_st* on) { return made.plan_.upload(made.table_.data(), on); }));
  return made;
}

Result<PlanRun> PlanRun::with_share(const Tensors& tensors, int head_dim, double share,
                                    DeviceStream& stream) {
  double low = -16;  // log2 of the density
  double high = 6;
  for (int i = 0;; ++i) {
    const double middle = (low + high) / 2;
    MI_TRY(PlanRun made, make(tensors, head_dim, std::exp2(middle), stream));
    MI_CHECK(stream.run([&](CUstream_st* on) { return made.launch(on); }));
    MI_TRY(const double executed, made.executed());
    if (i == 16 || std::abs(executed - share) < 0.01 * share) return made;
    (executed > share ? low : high) = middle;
  }
}

runtime::DeviceMemory PlanRun::memory() const {
  return {table_.data(), workspace_.data(), reinterpret_cast<double*>(unspent_.data()),
          reinterpret_cast<HeadReport*>(reports_.data())};
}

Status PlanRun::launch(CUstream_st* stream) const {
  return plan_.run(0, tensors_, memory(), stream);
}

Result<double> PlanRun::executed() const {
  std::vector<HeadReport> reports(kHeads);
  MI_CHECK(reports_.download(reports.data(), reports.size() * sizeof(HeadReport)));
  double tiles = 0;
  for (const HeadReport& of : reports) tiles += static_cast<double>(of.tiles);
  const runtime::CallShape call{tensors_.n_q, tensors_.n_kv, layers_.shape().head_dim};
  return tiles / (kHeads * static_cast<double>(runtime::dense_tiles(call)));
}

Result<std::vector<uint64_t>> PlanRun::keys(int64_t block) const {
  MI_TRY(const auto calls, layers_.wave(0, layers_.waves() - 1, tensors_, memory()));
  const auto download = [&](auto& to, const auto* from) {
    const auto offset = reinterpret_cast<const std::byte*>(from) - workspace_.data();
    return workspace_.download(to.data(), to.size() * sizeof(to[0]), static_cast<size_t>(offset));
  };
  const kernels::cuda::HeadWords& shape = calls.select.shape;
  const int64_t head = calls.select.num_heads - 1;
  std::vector<WorkItem> items(static_cast<size_t>(calls.index.size.blocks));
  MI_CHECK(download(items, calls.index.items));
  for (const WorkItem& item : items) {
    if (item.selection != head * shape.row_blocks() + block) continue;
    std::vector<uint64_t> words(static_cast<size_t>(shape.before(block + 1) - shape.before(block)));
    MI_CHECK(download(words, calls.select.words + head * shape.count() + shape.before(block)));
    return words;
  }
  return std::vector<uint64_t>();
}

}  // namespace mi::tools
