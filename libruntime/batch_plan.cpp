#include "libruntime/batch_plan.h"

#include <algorithm>
#include <map>
#include <new>
#include <utility>

#include <fmt/format.h>

namespace mi::runtime {
namespace {

// Tokens [first, first + count) of the second axis.
template <class T, int Rank>
TensorView<T, Rank> tokens(TensorView<T, Rank> all, int64_t first, int64_t count) {
  if (all.data == nullptr) return all;
  all.data += first * all.stride[1];
  all.extent[1] = count;
  return all;
}

}  // namespace

std::vector<size_t> distinct_lengths(std::span<const Sequence> sequences) {
  std::vector<size_t> which;
  std::map<std::pair<int64_t, int64_t>, size_t> known;
  for (const Sequence& sequence : sequences)
    which.push_back(known.try_emplace({sequence.n_q, sequence.n_kv}, known.size()).first->second);
  return which;
}

Result<BatchPlan> BatchPlan::make(const HeadConfig& config, PlanShape shape,
                                  std::span<const Sequence> sequences,
                                  const kernels::Backend& backend, int threads) try {
  if (sequences.empty())
    return fail(Code::invalid_argument, "batch: got no sequence, expected at least one");
  BatchPlan batch;
  batch.heads_ = static_cast<size_t>(shape.heads);
  batch.at_ = distinct_lengths(sequences);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    batch.sequences_.push_back(sequence);
    batch.total_.n_q += sequence.n_q;
    batch.total_.n_kv += sequence.n_kv;
    if (batch.at_[i] < batch.plans_.size()) continue;
    shape.n_q = sequence.n_q;
    shape.n_kv = sequence.n_kv;
    auto plan = Plan::make(config, shape, backend, threads);
    if (!plan) return fail(plan.error().code, fmt::format("sequence {}: {}", i, plan.error().what));
    batch.workspace_bytes_ = std::max(batch.workspace_bytes_, plan->workspace_bytes());
    batch.plans_.push_back(std::move(*plan));
  }
  return batch;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "batch: no memory for the plans");
}

Status BatchPlan::run(int layer, TensorView<const float, 3> q, TensorView<const float, 3> k,
                      TensorView<const float, 3> v, TensorView<float, 3> o,
                      TensorView<float, 2> lse, void* workspace, std::span<HeadStats> stats,
                      std::span<Unspent> unspent) const {
  return run_all<float>(layer, q, k, v, o, lse, workspace, stats, unspent);
}
Status BatchPlan::run(int layer, TensorView<const bf16, 3> q, TensorView<const bf16, 3> k,
                      TensorView<const bf16, 3> v, TensorView<bf16, 3> o, TensorView<float, 2> lse,
                      void* workspace, std::span<HeadStats> stats,
                      std::span<Unspent> unspent) const {
  return run_all<bf16>(layer, q, k, v, o, lse, workspace, stats, unspent);
}
Status BatchPlan::run(int layer, TensorView<const f16, 3> q, TensorView<const f16, 3> k,
                      TensorView<const f16, 3> v, TensorView<f16, 3> o, TensorView<float, 2> lse,
                      void* workspace, std::span<HeadStats> stats,
                      std::span<Unspent> unspent) const {
  return run_all<f16>(layer, q, k, v, o, lse, workspace, stats, unspent);
}

template <class T>
Status BatchPlan::run_all(int layer, TensorView<const T, 3> q, TensorView<const T, 3> k,
                          TensorView<const T, 3> v, TensorView<T, 3> o, TensorView<float, 2> lse,
                          void* workspace, std::span<HeadStats> stats,
                          std::span<Unspent> unspent) const {
  const auto check = [](const char* name, int64_t got, int64_t want) -> Status {
    if (got == want) return {};
    return fail(Code::invalid_argument,
                fmt::format("{}: got {} tokens, the batch has {}", name, got, want));
  };
  MI_CHECK(check("q", q.extent[1], total_.n_q));
  MI_CHECK(check("k", k.extent[1], total_.n_kv));
  MI_CHECK(check("v", v.extent[1], total_.n_kv));
  MI_CHECK(check("o", o.extent[1], total_.n_q));
  if (lse.data != nullptr) MI_CHECK(check("lse", lse.extent[1], total_.n_q));
  const size_t count = sequences_.size();
  if (!stats.empty() && stats.size() != count * heads_)
    return fail(Code::invalid_argument,
                fmt::format("stats: got {}, expected {} sequences x {} heads", stats.size(), count,
                            heads_));
  if (unspent.size() != count)
    return fail(Code::invalid_argument,
                fmt::format("unspent: got {}, expected {} sequences", unspent.size(), count));
  Sequence first;
  for (size_t i = 0; i < count; ++i) {
    const Sequence& at = sequences_[i];
    MI_CHECK(plan(i).run(layer, tokens(q, first.n_q, at.n_q), tokens(k, first.n_kv, at.n_kv),
                         tokens(v, first.n_kv, at.n_kv), tokens(o, first.n_q, at.n_q),
                         tokens(lse, first.n_q, at.n_q), workspace,
                         stats.empty() ? stats : stats.subspan(i * heads_, heads_), unspent[i]));
    first.n_q += at.n_q;
    first.n_kv += at.n_kv;
  }
  return {};
}

}  // namespace mi::runtime
