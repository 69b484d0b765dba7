#include "libruntime/plan.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <type_traits>

#include <fmt/format.h>
#include <omp.h>

#include "libruntime/wave_input.h"

namespace mi::runtime {
namespace {

// Heads in flight at most, so that a run's bookkeeping sits on the stack.
constexpr int kMaxWave = 64;

template <class T>
constexpr Element kElementOf = std::is_same_v<T, bf16>  ? Element::bf16
                               : std::is_same_v<T, f16> ? Element::f16
                                                        : Element::f32;

std::string_view name_of(Element element) {
  return element == Element::bf16 ? "bf16" : element == Element::f16 ? "f16" : "f32";
}

size_t round_up(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

}  // namespace

Result<Plan> Plan::make(const HeadConfig& config, const PlanShape& shape,
                        const kernels::Backend& backend, int threads) try {
  Plan plan;
  MI_TRY(plan.shape_, complete_shape(config, shape));
  plan.backend_ = shape.element == Element::bf16 ? &backend : &backend.f32();
  plan.threads_ = threads > 0 ? threads : omp_get_max_threads();
  kernels::AttentionHead head;
  head.n_q = shape.n_q;
  head.n_kv = shape.n_kv;
  head.head_dim = shape.head_dim;
  head.softcap = plan.shape_.softcap;
  MI_CHECK(backend.supports(head));
  MI_TRY(HeadPlans heads, plan_heads(config, plan.shape_));
  plan.layers_ = std::move(heads.layers);
  plan.notes_ = std::move(heads.notes);
  plan.size_workspace();
  return plan;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "plan: no memory for the per-head tables");
}

void Plan::size_workspace() {
  const CallShape call{shape_.n_q, shape_.n_kv, shape_.head_dim};
  size_t evidence = 0;
  size_t scratch = 0;
  size_t counts = 0;  // per row block, of a head whose threshold may still change
  bool reads_keys = false;
  int wide = shape_.head_dim;
  for (const auto& layer : layers_) {
    for (const HeadPlan& head : layer) {
      evidence = std::max(evidence, head.estimator->evidence_floats(call));
      scratch = std::max(scratch, head.estimator->scratch_floats(call));
      wide = std::max(wide, head.estimator->probability_dim(call));
      reads_keys = reads_keys || head.estimator->reads_keys();
      if (head.tile_cap)
        counts = std::max<size_t>(counts, head.resolved.spend_share ? kHistogramBins : kRaises + 1);
    }
  }
  const auto blocks = static_cast<size_t>(call.row_blocks());
  evidence_bytes_ = round_up(evidence * sizeof(float));
  bitmap_bytes_ =
      round_up(blocks * static_cast<size_t>(kernels::bitmap_words(shape_.n_kv)) * sizeof(uint64_t));
  counts_bytes_ = round_up(blocks * counts * sizeof(uint32_t));
  tiles_bytes_ = round_up(blocks * sizeof(int64_t));
  head_bytes_ = evidence_bytes_ + bitmap_bytes_ + counts_bytes_ + tiles_bytes_;
  estimate_bytes_ = round_up(static_cast<size_t>(std::min(call.row_blocks(), kEstimateGroup)) *
                             static_cast<size_t>(shape_.n_kv) * sizeof(float));
  scratch_bytes_ = round_up(scratch * sizeof(float));
  kernel_scratch_bytes_ = round_up(backend_->scratch_bytes(wide));
  const bool is_packed = shape_.element != Element::f32;
  if (is_packed) {
    const auto dim = static_cast<size_t>(shape_.head_dim);
    const auto keys = static_cast<size_t>(shape_.n_kv);
    kernel_scratch_bytes_ = round_up(std::max(
        {kernel_scratch_bytes_, backend_->packed_scratch_bytes(shape_.head_dim, shape_.n_kv),
         backend_->packed_scratch_bytes(wide, kernels::kRowBlock)}));
    packed_bytes_ = round_up(backend_->packed_bytes(shape_.head_dim, shape_.n_kv));
    // f16 keys are packed as f32 rows already.
    const bool widens = reads_keys && shape_.element == Element::bf16;
    wide_key_bytes_ = widens ? round_up(keys * dim * sizeof(float)) : 0;
    const int64_t rows = std::min(shape_.n_q, kEstimateGroup * kernels::kRowBlock);
    query_bytes_ = round_up(static_cast<size_t>(rows) * dim * sizeof(float));
  }
  thread_bytes_ = estimate_bytes_ + scratch_bytes_ + kernel_scratch_bytes_ + query_bytes_;
  // Heads run together so that threads share the work of each; 64 MiB of indexes at most.
  const size_t affordable = std::max<size_t>(1, (size_t{64} << 20) / head_bytes_);
  wave_heads_ = static_cast<int>(std::min(affordable, static_cast<size_t>(shape_.heads)));
  workspace_bytes_ = static_cast<size_t>(wave_heads_) * head_bytes_ +
                     static_cast<size_t>(threads_) * thread_bytes_;
  if (is_packed) workspace_bytes_ += wave_kv_heads() * (packed_bytes_ + wide_key_bytes_);
}

// KV heads that a wave touches at most, wherever it begins.
size_t Plan::wave_kv_heads() const {
  const int group = shape_.heads / shape_.kv_heads;
  const int heads = std::min(wave_heads_, kMaxWave);
  return static_cast<size_t>(std::min(shape_.kv_heads, (heads + group - 2) / group + 1));
}

template <class T>
Status Plan::check_views(int layer, const TensorView<const T, 3>& q,
                         const TensorView<const T, 3>& k, const TensorView<const T, 3>& v,
                         const TensorView<T, 3>& o) const {
  if (kElementOf<T> != shape_.element)
    return fail(Code::invalid_argument,
                fmt::format("element: got {}, the plan is for {}", name_of(kElementOf<T>),
                            name_of(shape_.element)));
  if (layer < 0 || layer >= layers())
    return fail(Code::invalid_argument,
                fmt::format("layer: got {}, the config has {}", layer, layers()));
  const std::array<int64_t, 3> query = {shape_.heads, shape_.n_q, shape_.head_dim};
  const std::array<int64_t, 3> key = {shape_.kv_heads, shape_.n_kv, shape_.head_dim};
  const auto check = [](const char* name, const std::array<int64_t, 3>& got,
                        const std::array<int64_t, 3>& want, bool contiguous,
                        bool present) -> Status {
    if (!present) return fail(Code::invalid_argument, fmt::format("{}: no data", name));
    if (got != want)
      return fail(Code::invalid_argument,
                  fmt::format("{}: got [{}, {}, {}], the plan is for [{}, {}, {}]", name, got[0],
                              got[1], got[2], want[0], want[1], want[2]));
    if (!contiguous)
      return fail(Code::invalid_argument, fmt::format("{}: innermost stride must be 1", name));
    return {};
  };
  MI_CHECK(check("q", q.extent, query, q.stride[2] == 1, q.data != nullptr));
  MI_CHECK(check("k", k.extent, key, k.stride[2] == 1, k.data != nullptr));
  MI_CHECK(check("v", v.extent, key, v.stride[2] == 1, v.data != nullptr));
  MI_CHECK(check("o", o.extent, query, o.stride[2] == 1, o.data != nullptr));
  return {};
}

// One set of heads on its way through estimate, selection and attention.
struct Plan::Wave {
  std::span<const HeadPlan> plans;  // [count]
  std::span<HeadStats> stats;       // [count] or empty
  int first = 0;                    // of the call's heads
  const WaveInput* input = nullptr;
  std::byte* head_memory = nullptr;
  std::byte* thread_memory = nullptr;
};

Status Plan::run(int layer, TensorView<const float, 3> q, TensorView<const float, 3> k,
                 TensorView<const float, 3> v, TensorView<float, 3> o, TensorView<float, 2> lse,
                 void* workspace, std::span<HeadStats> stats, Unspent& unspent) const {
  return run_layer<float>(layer, q, k, v, o, lse, workspace, stats, unspent);
}
Status Plan::run(int layer, TensorView<const bf16, 3> q, TensorView<const bf16, 3> k,
                 TensorView<const bf16, 3> v, TensorView<bf16, 3> o, TensorView<float, 2> lse,
                 void* workspace, std::span<HeadStats> stats, Unspent& unspent) const {
  return run_layer<bf16>(layer, q, k, v, o, lse, workspace, stats, unspent);
}
Status Plan::run(int layer, TensorView<const f16, 3> q, TensorView<const f16, 3> k,
                 TensorView<const f16, 3> v, TensorView<f16, 3> o, TensorView<float, 2> lse,
                 void* workspace, std::span<HeadStats> stats, Unspent& unspent) const {
  return run_layer<f16>(layer, q, k, v, o, lse, workspace, stats, unspent);
}

template <class T>
Status Plan::run_layer(int layer, TensorView<const T, 3> q, TensorView<const T, 3> k,
                       TensorView<const T, 3> v, TensorView<T, 3> o, TensorView<float, 2> lse,
                       void* workspace, std::span<HeadStats> stats, Unspent& unspent) const {
  MI_CHECK(check_views(layer, q, k, v, o));
  if (!stats.empty() && stats.size() != static_cast<size_t>(shape_.heads))
    return fail(Code::invalid_argument,
                fmt::format("stats: got {}, expected {}", stats.size(), shape_.heads));
  const std::array<int64_t, 2> rows = {shape_.heads, shape_.n_q};
  if (lse.data != nullptr && (lse.extent != rows || lse.stride[1] != 1))
    return fail(Code::invalid_argument,
                fmt::format("lse: got [{}, {}] with inner stride {}, expected [{}, {}] with 1",
                            lse.extent[0], lse.extent[1], lse.stride[1], rows[0], rows[1]));
  if (workspace == nullptr) return fail(Code::invalid_argument, "workspace: no data");
  for (int begin = 0; begin < shape_.heads; begin += std::min(wave_heads_, kMaxWave)) {
    const int count = std::min({wave_heads_, kMaxWave, shape_.heads - begin});
    const auto first = static_cast<size_t>(begin);
    const auto size = static_cast<size_t>(count);
    const CallHeads<T> call{.backend = backend_,
                            .q = q,
                            .k = k,
                            .v = v,
                            .o = o,
                            .lse = lse,
                            .first = begin,
                            .count = count,
                            .heads_per_kv = shape_.heads / shape_.kv_heads,
                            .scale = shape_.scale,
                            .softcap = shape_.softcap};
    Wave wave;
    wave.plans = std::span(layers_[static_cast<size_t>(layer)]).subspan(first, size);
    if (!stats.empty()) wave.stats = stats.subspan(first, size);
    wave.first = begin;
    wave.head_memory = static_cast<std::byte*>(workspace);
    wave.thread_memory = wave.head_memory + static_cast<size_t>(wave_heads_) * head_bytes_;
    std::byte* packed = wave.thread_memory + static_cast<size_t>(threads_) * thread_bytes_;
    const InputOf<T> input = [&] {
      if constexpr (std::is_same_v<T, float>) {
        return RowsInput(call);
      } else {
        std::byte* wide = packed + wave_kv_heads() * packed_bytes_;
        return PackedInput<T>(call, packed, packed_bytes_,
                              wide_key_bytes_ > 0 ? reinterpret_cast<float*>(wide) : nullptr);
      }
    }();
    wave.input = &input;
    run_wave(wave, unspent);
  }
  return {};
}

// Thresholds for a second pass over the estimates. A head without a threshold takes the one that
// spends its share. The heads with a threshold pool their shares, and what earlier layers left of
// theirs: if together they are over, all their thresholds rise by one factor, in steps of an eighth
// of an octave, until they fit. A cap per head would bind in half of the heads of any new prompt,
// and dropping a key that holds most of a row's mass costs far more than the tile it saves (SmolLM2
// at 15 %: layers 3-10 lost 70 % of their attention and KL rose by half); so thresholds rise
// fourfold at most. A second pass over a head's estimates is paid for in keys; a head that it would
// save less than it costs keeps its threshold (of 4096 tokens a pass is 0.8 % of dense attention:
// with one for every head KL at 10 % was 0.31 instead of 0.17, at 15 % 0.039 instead of 0.037).
template <class Counts, class Tiles>
void Plan::apply_caps(const Wave& wave, int64_t blocks, const Counts& counts_of,
                      const Tiles& tiles_of, std::span<float> lambda, std::span<bool> again,
                      Unspent& unspent) const {
  const auto counts = [&](size_t i, int of_block) {
    return std::span<const uint32_t>(counts_of(static_cast<int64_t>(i)),
                                     static_cast<size_t>(blocks * of_block));
  };
  const CallShape call{shape_.n_q, shape_.n_kv, shape_.head_dim};
  struct Pooled {
    size_t head = 0;
    double tiles = 0;
    double second_pass = 0;  // in tiles
  };
  size_t pooled = 0;
  std::array<Pooled, kMaxWave> pool{};
  double affordable = unspent.tiles;
  double total = 0;
  for (size_t i = 0; i < wave.plans.size(); ++i) {
    const HeadPlan& plan = wave.plans[i];
    again[i] = plan.resolved.spend_share;
    if (!plan.tile_cap) continue;
    if (plan.resolved.spend_share) {
      lambda[i] = lambda_for_tiles(counts(i, kHistogramBins),
                                   static_cast<int64_t>(std::max(0.0, *plan.tile_cap)));
      continue;
    }
    int64_t tiles = 0;
    for (int64_t m = 0; m < blocks; ++m) tiles += tiles_of(static_cast<int64_t>(i))[m];
    pool[pooled++] = {i, static_cast<double>(tiles),
                      plan.estimator->rows_flops(call) / tile_flops(shape_.head_dim)};
    affordable += *plan.tile_cap;
    total += static_cast<double>(tiles);
  }
  if (total <= affordable) {
    unspent.tiles = affordable - total;
    return;
  }
  const std::span heads = std::span(pool).first(pooled);
  const auto with_raise = [&](const Pooled& own, int steps) {
    return own.second_pass + static_cast<double>(tiles_after(counts(own.head, kRaises + 1), steps));
  };
  const auto cost = [&](int steps) {
    double tiles = 0;
    for (const Pooled& own : heads) tiles += std::min(own.tiles, with_raise(own, steps));
    return tiles;
  };
  int low = 1;
  int high = kRaises;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (cost(middle) <= affordable) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  for (const Pooled& own : heads) {
    if (with_raise(own, low) >= own.tiles) continue;
    again[own.head] = true;
    lambda[own.head] = raised(lambda[own.head], low);
  }
  unspent.tiles = affordable - cost(low);
}

// Row blocks of a KV head that one thread attends at a time: as many as a backend runs as one
// group, and few enough that every thread gets a dozen turns.
int64_t Plan::row_blocks_together(int64_t blocks, int64_t heads_per_kv) const {
  const int64_t share = blocks / (12 * int64_t{threads_});
  return std::clamp<int64_t>(share, 1, std::max<int64_t>(1, kernels::kMaxGroup / heads_per_kv));
}

void Plan::run_wave(const Wave& wave, Unspent& unspent) const {
  const auto count = static_cast<int64_t>(wave.plans.size());
  const CallShape call{shape_.n_q, shape_.n_kv, shape_.head_dim};
  const int64_t blocks = call.row_blocks();
  const int64_t groups = (blocks + kEstimateGroup - 1) / kEstimateGroup;
  const int64_t words = kernels::bitmap_words(shape_.n_kv);
  const auto memory_of = [&](int64_t i) {
    return wave.head_memory + static_cast<size_t>(i) * head_bytes_;
  };
  const auto bitmap_of = [&](int64_t i) {
    return reinterpret_cast<uint64_t*>(memory_of(i) + evidence_bytes_);
  };
  const auto counts_of = [&](int64_t i) {
    return reinterpret_cast<uint32_t*>(memory_of(i) + evidence_bytes_ + bitmap_bytes_);
  };
  const auto tiles_of = [&](int64_t i) {
    return reinterpret_cast<int64_t*>(memory_of(i) + evidence_bytes_ + bitmap_bytes_ +
                                      counts_bytes_);
  };
  const auto is_dense = [&](int64_t i) {
    return wave.plans[static_cast<size_t>(i)].resolved.params.pattern == Pattern::dense;
  };
  std::array<float, kMaxWave> lambda{};
  std::array<bool, kMaxWave> again{};
  // Null: every key.
  const auto keys_of = [&](int64_t i, int64_t m) -> const uint64_t* {
    if (is_dense(i)) return nullptr;
    const uint64_t* keys = bitmap_of(i) + m * words;
    const int64_t end = call.keys_end(m);
    const auto size = static_cast<size_t>(kernels::bitmap_words(end));
    return faster_dense({keys, size}, end, backend_->gather_price()) ? nullptr : keys;
  };
  // The wave's KV heads: where the query heads of each begin.
  const int heads_per_kv = shape_.heads / shape_.kv_heads;
  std::array<int, kMaxWave + 1> starts{};
  int64_t kv_heads = 0;
  for (int i = 1; i < count; ++i)
    if ((wave.first + i) % heads_per_kv == 0) starts[static_cast<size_t>(++kv_heads)] = i;
  starts[static_cast<size_t>(++kv_heads)] = static_cast<int>(count);

  const int64_t together = row_blocks_together(blocks * kv_heads, count / kv_heads);
  const int64_t turns = (blocks + together - 1) / together;

#pragma omp parallel num_threads(threads_)
  {
    std::byte* own = wave.thread_memory + static_cast<size_t>(omp_get_thread_num()) * thread_bytes_;
    EstimatorMemory memory;
    memory.estimates = reinterpret_cast<float*>(own);
    memory.scratch = reinterpret_cast<float*>(own + estimate_bytes_);
    memory.kernel_scratch = own + estimate_bytes_ + scratch_bytes_;
    auto* queries =
        reinterpret_cast<float*>(own + estimate_bytes_ + scratch_bytes_ + kernel_scratch_bytes_);
    const auto estimate_group = [&](int64_t unit) {
      const int64_t i = unit / groups;
      const int64_t begin = (unit % groups) * kEstimateGroup;
      const int64_t end = std::min(blocks, begin + kEstimateGroup);
      const auto at = static_cast<size_t>(i);
      const HeadPlan& plan = wave.plans[at];
      memory.evidence = reinterpret_cast<float*>(memory_of(i));
      const auto head = wave.input->head(static_cast<int>(i), begin * kernels::kRowBlock,
                                         std::min(shape_.n_q, end * kernels::kRowBlock),
                                         plan.estimator->reads_queries(), queries);
      // The threshold of a second pass stands.
      Selection selection{.words = bitmap_of(i), .tiles = tiles_of(i)};
      if (plan.tile_cap && !again[at])
        (plan.resolved.spend_share ? selection.bins : selection.raises) = counts_of(i);
      plan.estimator->select(head, *backend_, memory, begin, end, lambda[at], selection);
    };

#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < wave.input->prepare_units(); ++unit) wave.input->prepare(unit);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      const HeadPlan& plan = wave.plans[at];
      lambda[at] = plan.resolved.spend_share ? HUGE_VALF : plan.resolved.lambda;
      memory.evidence = reinterpret_cast<float*>(memory_of(i));
      const auto head = wave.input->head(static_cast<int>(i), std::max<int64_t>(0, shape_.n_q - 64),
                                         shape_.n_q, true, queries);
      plan.estimator->prepare(head, *backend_, memory);
    }
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < count * groups; ++unit)
      if (!is_dense(unit / groups)) estimate_group(unit);

#pragma omp single
    apply_caps(wave, blocks, counts_of, tiles_of, lambda, again, unspent);
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < count * groups; ++unit)
      if (again[static_cast<size_t>(unit / groups)]) estimate_group(unit);

        // Longest rows first. One thread takes all query heads of a KV head on a few row blocks:
        // they select many keys in common.
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < kv_heads * turns; ++unit) {
      const auto kv = static_cast<size_t>(unit % kv_heads);
      const int64_t last = blocks - unit / kv_heads * together;
      const int64_t heads = starts[kv + 1] - starts[kv];
      const int64_t parts = heads * std::min(last, together);
      const int64_t step = kernels::kMaxGroup;
      for (int64_t done = 0; done < parts; done += step) {
        std::array<BlockWork, kernels::kMaxGroup> work;
        const auto size = static_cast<size_t>(std::min(parts - done, step));
        for (size_t n = 0; n < size; ++n) {
          const int64_t part = done + static_cast<int64_t>(n);
          work[n].head = static_cast<int>(starts[kv] + part % heads);
          work[n].block = last - 1 - part / heads;
          work[n].keys = keys_of(work[n].head, work[n].block);
        }
        wave.input->attend(std::span(work).first(size), memory.kernel_scratch);
        for (size_t n = 0; n < size; ++n) tiles_of(work[n].head)[work[n].block] = work[n].tiles;
      }
    }
  }
  for (int64_t i = 0; i < count && !wave.stats.empty(); ++i) {
    const auto at = static_cast<size_t>(i);
    HeadStats& stats = wave.stats[at];
    stats = {};
    for (int64_t m = 0; m < blocks; ++m) stats.tiles += tiles_of(i)[m];
    stats.capped = again[at] && !wave.plans[at].resolved.spend_share;
    const Estimator& estimator = *wave.plans[at].estimator;
    stats.estimate_flops = estimator.flops(call) + (again[at] ? estimator.rows_flops(call) : 0);
    stats.share = cost_share(call, stats.tiles, stats.estimate_flops);
  }
}

}  // namespace mi::runtime
