#include "libruntime/cuda/device_layers.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "kernels/cuda/tile_shape.h"
#include "libruntime/cuda/head_rules.h"

namespace mi::runtime {
namespace {

using kernels::cuda::HeadRule;

constexpr size_t kAlignment = 256;  // as cudaMalloc's

size_t round_up(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Status check_shape(const PlanShape& shape) {
  if (shape.element == Element::f32)
    return fail(Code::unsupported, "element: got f32, CUDA kernels support bf16 and f16");
  if (shape.n_q < 1 || shape.n_q > shape.n_kv || shape.n_kv > INT32_MAX)
    return fail(Code::invalid_argument,
                fmt::format("tokens: got n_q {}, n_kv {}, expected 1 <= n_q <= n_kv <= {}",
                            shape.n_q, shape.n_kv, INT32_MAX));
  const auto& known = kernels::cuda::kHeadDims;
  if (std::find(known.begin(), known.end(), shape.head_dim) == known.end())
    return fail(Code::unsupported, fmt::format("head_dim: got {}, CUDA kernels support {}",
                                               shape.head_dim, fmt::join(known, ", ")));
  return {};
}

template <class T>
void append(std::vector<std::byte>& to, std::span<const T> from) {
  const auto bytes = std::as_bytes(from);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

}  // namespace

// Offsets into the workspace; what a wave needs to the end.
struct DeviceLayers::Places {
  size_t sequence = 0, tiles = 0, raises = 0, found = 0, spent = 0, words = 0, blocks = 0, cuts = 0,
         partial = 0, p = 0, evidence = 0, means = 0, index = 0, codes = 0, end = 0;
};

// Columns for three eighths of all keys and runs for a sixteenth: 2 bytes a key and row block, in
// the place of its code. For the worst of bitmaps it would be 4.4; a row block without room runs
// dense.
kernels::cuda::IndexSize DeviceLayers::index_size(int heads) const {
  const int64_t keys = heads * words_.count() * 64;
  return {.blocks = heads * words_.row_blocks(),
          .runs = keys / 16,
          .columns = keys / 8 * 3,
          .most_tiles = static_cast<int32_t>(tiles_for(shape_.n_kv))};
}

DeviceLayers::Places DeviceLayers::places(int heads) const {
  const auto words = static_cast<size_t>(heads * words_.count());
  const auto blocks = static_cast<size_t>(heads * words_.row_blocks());
  Places at;
  const auto take = [&](size_t bytes) {
    const size_t place = at.end;
    at.end += round_up(bytes);
    return place;
  };
  at.sequence = take(sizeof(kernels::cuda::Sequence<bf16>));
  at.tiles = take(static_cast<size_t>(heads) * (kernels::cuda::kRaises + 1) * sizeof(int64_t));
  at.raises = take(static_cast<size_t>(heads) * sizeof(int32_t));
  at.found = take(static_cast<size_t>(heads) * sizeof(float));
  at.spent = take(static_cast<size_t>(std::min(heads, most_spending_) * words_.row_blocks()) *
                  kernels::cuda::SelectShape::kCodes * sizeof(int32_t));
  at.words = take(words * sizeof(uint64_t));
  at.blocks = take(blocks * sizeof(kernels::cuda::RowBlock));
  at.cuts = take(blocks * (kernels::cuda::kRaises + 1) * sizeof(kernels::cuda::Cut));
  kernels::cuda::VerticalCall<bf16> vertical;
  vertical.of.shape = words_;
  const auto floats = [&](int64_t of_head) {
    return static_cast<size_t>(std::min(heads, most_vertical_) * of_head) * sizeof(float);
  };
  at.partial = take(floats(vertical.partial_floats()));
  at.p = take(floats(vertical.p_floats()));
  at.evidence = take(floats(vertical.evidence_floats()));
  const auto key_blocks = static_cast<size_t>(tiles_for(shape_.n_kv));
  const auto dim = static_cast<size_t>(shape_.head_dim);
  at.means = take(
      has_pooled_ ? static_cast<size_t>(shape_.kv_heads) * dim * key_blocks * sizeof(float) : 0);
  kernels::cuda::IndexSize size = index_size(heads);
  at.index = at.end;
  at.end += kernels::cuda::index_bytes(size);
  // Codes are read before runs are written.
  size.runs = size.columns = 0;
  at.codes = at.index + kernels::cuda::index_bytes(size);
  at.end = std::max(at.end, at.codes + words * 64);
  return at;
}

Result<DeviceLayers> DeviceLayers::make(const HeadConfig& config, const PlanShape& shape,
                                        const DeviceOptions& options) try {
  DeviceLayers made;
  MI_TRY(made.shape_, complete_shape(config, shape));
  MI_CHECK(check_shape(shape));
  MI_TRY(HeadPlans plans, plan_heads(config, made.shape_));
  made.notes_ = std::move(plans.notes);
  made.words_ = {shape.n_q, shape.n_kv};
  for (const std::vector<HeadPlan>& heads : plans.layers) {
    made.most_vertical_ =
        std::max(made.most_vertical_,
                 static_cast<int>(std::count_if(heads.begin(), heads.end(), has_vertical)));
    made.most_spending_ =
        std::max(made.most_spending_,
                 static_cast<int>(std::count_if(heads.begin(), heads.end(), spends_tiles)));
    made.has_pooled_ = made.has_pooled_ || std::any_of(heads.begin(), heads.end(), has_pooled);
  }
  while (made.wave_heads_ < shape.heads &&
         made.places(made.wave_heads_ + 1).end <= options.wave_bytes)
    ++made.wave_heads_;
  for (size_t layer = 0; layer < plans.layers.size(); ++layer)
    for (size_t h = 0; h < plans.layers[layer].size(); ++h) {
      MI_CHECK(check_head(plans.layers[layer][h], layer, h));
      const HeadRule rule = rule_of(plans.layers[layer][h], shape);
      append(made.table_, std::span(&rule, 1));
    }
  for (const std::vector<HeadPlan>& heads : plans.layers) {
    auto& waves = made.waves_.emplace_back();
    for (int first = 0; first < shape.heads; first += made.wave_heads_) {
      const int count = std::min(made.wave_heads_, shape.heads - first);
      waves.push_back(made.make_wave(
          std::span(heads).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first));
    }
  }
  made.workspace_bytes_ = made.places(made.wave_heads_).end;
  return made;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "plan: no memory for the per-head tables");
}

template <class Has>
DeviceLayers::HeadList DeviceLayers::list_heads(std::span<const HeadPlan> heads, const Has& has) {
  HeadList list{.place = table_.size()};
  for (size_t i = 0; i < heads.size(); ++i) {
    if (!has(heads[i])) continue;
    const auto index = static_cast<int32_t>(i);
    append(table_, std::span(&index, 1));
    ++list.count;
  }
  return list;
}

template <class Has>
DeviceLayers::EstimateLists DeviceLayers::list_estimates(std::span<const HeadPlan> heads,
                                                         const Has& has) {
  const auto list = [&](const auto& estimates) {
    return list_heads(heads, [&](const HeadPlan& head) { return has(head) && estimates(head); });
  };
  EstimateLists lists;
  lists.stripes = list(has_stripes);
  lists.vertical = list(has_vertical);
  lists.pooled = list(has_pooled);
  lists.antidiagonal_8 = list([](const HeadPlan& head) { return has_antidiagonals(head, 8); });
  lists.antidiagonal_16 = list([](const HeadPlan& head) { return has_antidiagonals(head, 16); });
  return lists;
}

DeviceLayers::Wave DeviceLayers::make_wave(std::span<const HeadPlan> heads, int first) {
  Wave wave;
  wave.first = first;
  wave.count = static_cast<int>(heads.size());
  wave.estimates = list_estimates(heads, [](const HeadPlan&) { return true; });
  wave.bins = list_estimates(heads, spends_tiles);
  wave.spending = list_heads(heads, spends_tiles);
  for (const HeadPlan& head : heads) {
    if (!head.tile_cap || head.resolved.spend_share) continue;
    wave.shares_cap = true;
    wave.cap += *head.tile_cap;
  }
  return wave;
}

template <class T>
EstimateCalls<T> DeviceLayers::estimate_calls(const EstimateLists& lists, const Wave& wave,
                                              const kernels::cuda::EstimateCall<T>& shared,
                                              const DeviceMemory& memory) const {
  const Places at = places(wave.count);
  const auto put = [&](float*& array, size_t place) {
    array = reinterpret_cast<float*>(memory.workspace + place);
  };
  const auto of = [&](const HeadList& list) {
    kernels::cuda::EstimateCall<T> call = shared;
    call.which = reinterpret_cast<const int32_t*>(memory.table + list.place);
    call.count = list.count;
    return call;
  };
  EstimateCalls<T> calls;
  calls.stripes = of(lists.stripes);
  calls.vertical.of = of(lists.vertical);
  put(calls.vertical.partial, at.partial);
  put(calls.vertical.p, at.p);
  put(calls.vertical.evidence, at.evidence);
  calls.pooled.of = of(lists.pooled);
  calls.pooled.head_dim = shape_.head_dim;
  calls.pooled.first_kv = wave.first / shared.heads_per_kv;
  calls.pooled.kv_heads =
      (wave.first + wave.count - 1) / shared.heads_per_kv - calls.pooled.first_kv + 1;
  put(calls.pooled.means, at.means);
  calls.antidiagonals = {{{of(lists.antidiagonal_8), 8}, {of(lists.antidiagonal_16), 16}}};
  return calls;
}

template <class T>
Result<WaveCalls<T>> DeviceLayers::wave(int layer, int wave,
                                        const kernels::cuda::Sequence<T>& tensors,
                                        const DeviceMemory& memory) const {
  if (std::is_same_v<T, bf16> != (shape_.element == Element::bf16))
    return fail(Code::invalid_argument, "element: the plan is for the other of bf16 and f16");
  if (layer < 0 || layer >= layers())
    return fail(Code::invalid_argument,
                fmt::format("layer: got {}, the config has {}", layer, layers()));
  const auto check = [](const char* name, const void* pointer, size_t alignment) -> Status {
    if (pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % alignment == 0) return {};
    return fail(
        Code::invalid_argument,
        fmt::format("{}: got a pointer that is null or not aligned to {} bytes", name, alignment));
  };
  MI_CHECK(check("table", memory.table, kAlignment));
  MI_CHECK(check("workspace", memory.workspace, kAlignment));
  MI_CHECK(check("unspent", memory.unspent, alignof(double)));

  const Wave& of = waves_[static_cast<size_t>(layer)][static_cast<size_t>(wave)];
  const Places at = places(of.count);
  const auto put = [&]<class U>(U*& array, size_t place) {
    array = reinterpret_cast<U*>(memory.workspace + place);
  };
  const auto* rules = reinterpret_cast<const HeadRule*>(memory.table) + layer * shape_.heads;
  const int heads_per_kv = shape_.heads / shape_.kv_heads;
  kernels::cuda::Sequence<T>* sequence = nullptr;
  put(sequence, at.sequence);
  WaveCalls<T> calls;
  if (wave == 0) {
    kernels::cuda::Sequence<T> own = tensors;
    own.n_q = shape_.n_q;
    own.n_kv = shape_.n_kv;
    static_assert(sizeof(own) <= sizeof(calls.put.words) && sizeof(own) % 8 == 0);
    std::memcpy(calls.put.words, &own, sizeof(own));
    calls.put.count = sizeof(own) / 8;
    calls.put.to = reinterpret_cast<uint64_t*>(sequence);
  }
  kernels::cuda::EstimateCall<T> shared{.q = tensors.q,
                                        .k = tensors.k,
                                        .shape = words_,
                                        .heads = rules + of.first,
                                        .first_head = of.first,
                                        .heads_per_kv = heads_per_kv,
                                        .scale = shape_.scale,
                                        .softcap = shape_.softcap};
  put(shared.codes, at.codes);
  put(shared.found, at.found);
  calls.codes = estimate_calls(of.estimates, of, shared, memory);
  shared.bins = 1;
  calls.bins = estimate_calls(of.bins, of, shared, memory);
  calls.shares_cap = of.shares_cap;
  calls.select = {.heads = rules + of.first,
                  .num_heads = of.count,
                  .first_head = of.first,
                  .shape = words_,
                  .codes = shared.codes,
                  .cap = of.cap,
                  .unspent = memory.unspent};
  put(calls.select.words, at.words);
  put(calls.select.blocks, at.blocks);
  put(calls.select.cuts, at.cuts);
  put(calls.select.tiles, at.tiles);
  put(calls.select.raises, at.raises);
  calls.spend.select = calls.select;
  calls.spend.which = reinterpret_cast<const int32_t*>(memory.table + of.spending.place);
  calls.spend.count = of.spending.count;
  put(calls.spend.tiles, at.spent);
  put(calls.spend.found, at.found);
  MI_TRY(calls.index, kernels::cuda::index_call(calls.select.blocks, index_size(of.count),
                                                memory.workspace + at.index, at.end - at.index));
  calls.attend = {sequence,         calls.index.items,   calls.index.selections,
                  calls.index.runs, calls.index.columns, heads_per_kv,
                  shape_.scale,     shape_.softcap};
  if (memory.reports != nullptr)
    calls.report = {calls.index, calls.select, memory.reports + of.first};
  return calls;
}

template Result<WaveCalls<bf16>> DeviceLayers::wave(int, int, const kernels::cuda::Sequence<bf16>&,
                                                    const DeviceMemory&) const;
template Result<WaveCalls<f16>> DeviceLayers::wave(int, int, const kernels::cuda::Sequence<f16>&,
                                                   const DeviceMemory&) const;

}  // namespace mi::runtime
