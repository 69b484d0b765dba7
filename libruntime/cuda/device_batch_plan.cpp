#include "libruntime/cuda/device_batch_plan.h"

#include <algorithm>
#include <string>
#include <utility>

namespace mi::runtime {
namespace {

constexpr size_t kAlignment = 256;  // of a table

template <class T>
void skip(kernels::cuda::Strided<T>& tensor, int64_t tokens) {
  if (tensor.data != nullptr) tensor.data = tensor.row(tokens);
}

}  // namespace

Result<DeviceBatchPlan> DeviceBatchPlan::make(const HeadConfig& config, PlanShape shape,
                                              std::span<const Sequence> sequences,
                                              const DeviceOptions& options) {
  if (sequences.empty())
    return fail(Code::invalid_argument, "batch: got no sequence, expected at least one");
  DeviceBatchPlan batch;
  batch.sequences_.assign(sequences.begin(), sequences.end());
  batch.at_ = distinct_lengths(sequences);
  batch.heads_ = static_cast<size_t>(shape.heads);
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (batch.at_[i] < batch.plans_.size()) continue;
    shape.n_q = sequences[i].n_q;
    shape.n_kv = sequences[i].n_kv;
    auto plan = DevicePlan::make(config, shape, options);
    if (!plan)
      return fail(plan.error().code, "sequence " + std::to_string(i) + ": " + plan.error().what);
    batch.tables_.push_back(batch.table_bytes_);
    batch.table_bytes_ += (plan->table_bytes() + kAlignment - 1) / kAlignment * kAlignment;
    batch.workspace_bytes_ = std::max(batch.workspace_bytes_, plan->workspace_bytes());
    batch.plans_.push_back(std::move(*plan));
  }
  return batch;
}

Status DeviceBatchPlan::upload(std::byte* table, CUstream_st* stream) const {
  for (size_t i = 0; i < plans_.size(); ++i) MI_CHECK(plans_[i].upload(table + tables_[i], stream));
  return {};
}

template <class T>
Status DeviceBatchPlan::run(int layer, const kernels::cuda::Sequence<T>& tensors,
                            const DeviceMemory& memory, CUstream_st* stream) const {
  kernels::cuda::Sequence<T> next = tensors;
  DeviceMemory own = memory;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    own.table = memory.table == nullptr ? nullptr : memory.table + tables_[at_[i]];
    MI_CHECK(plans_[at_[i]].run(layer, next, own, stream));
    const Sequence& of = sequences_[i];
    skip(next.q, of.n_q);
    skip(next.k, of.n_kv);
    skip(next.v, of.n_kv);
    skip(next.o, of.n_q);
    if (next.lse != nullptr) next.lse += of.n_q;
    ++own.unspent;
    if (own.reports != nullptr) own.reports += heads_;
  }
  return {};
}

template Status DeviceBatchPlan::run(int, const kernels::cuda::Sequence<bf16>&, const DeviceMemory&,
                                     CUstream_st*) const;
template Status DeviceBatchPlan::run(int, const kernels::cuda::Sequence<f16>&, const DeviceMemory&,
                                     CUstream_st*) const;

}  // namespace mi::runtime
