// A layer as a device plan launches it, on a device or the emulator of one, against libruntime's
// estimates and the double-precision oracle over the keys that the device selected itself.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/tensor_view.h"
#include "libruntime/cuda/device_layers.h"
#include "libruntime/select.h"
#include "tests/cuda/under_test.h"
#include "tests/ideal.h"

namespace mi::test::cuda {
using runtime::DeviceLayers;
using runtime::HeadConfig;
using runtime::HeadEntry;
using runtime::PlanShape;
using runtime::WaveCalls;

// The host's copy of device memory; begins at a multiple of 256 bytes.
struct DeviceBytes {
  std::vector<std::byte> bytes;
  std::byte* data;
  size_t size;
  explicit DeviceBytes(size_t of_size) : bytes(of_size + 256, std::byte{0xff}), size(of_size) {
    data = bytes.data() + (256 - reinterpret_cast<uintptr_t>(bytes.data()) % 256);
  }
};

// q, k and v of a layer, and its outputs; heads behind each other.
template <class T>
struct LayerTensors {
  PlanShape shape;
  std::vector<float> q, k, v;  // exactly the elements
  AlignedBuffer<T> narrow_q, narrow_k, narrow_v, o;
  std::vector<float> lse;

  LayerTensors(const PlanShape& of, uint64_t seed, float sigma) : shape(of) {
    const auto fill = [&](std::vector<float>& wide, AlignedBuffer<T>& narrow, int64_t count,
                          float scale) {
      wide = random_normal(static_cast<size_t>(count), ++seed, scale);
      narrow.resize(wide.size());
      for (size_t i = 0; i < wide.size(); ++i) {
        narrow[i] = narrowed<T>(wide[i]);
        wide[i] = to_float(narrow[i]);
      }
    };
    fill(q, narrow_q, of.heads * of.n_q * of.head_dim, sigma);
    fill(k, narrow_k, of.kv_heads * of.n_kv * of.head_dim, sigma);
    fill(v, narrow_v, of.kv_heads * of.n_kv * of.head_dim, 1);
    o.resize(q.size());
    std::fill(o.span().begin(), o.span().end(), T{0xffff});
    lse.assign(static_cast<size_t>(of.heads * of.n_q), std::nanf(""));
  }
  // As kernels see it.
  [[nodiscard]] kernels::cuda::Sequence<T> share(Memory& memory) {
    const int64_t dim = shape.head_dim;
    return {.q = {memory.input(narrow_q.data(), q.size()), dim, shape.n_q * dim},
            .k = {memory.input(narrow_k.data(), k.size()), dim, shape.n_kv * dim},
            .v = {memory.input(narrow_v.data(), v.size()), dim, shape.n_kv * dim},
            .o = {memory.output(o.data(), o.size()), dim, shape.n_q * dim},
            .lse = memory.output(lse),
            .lse_head_stride = shape.n_q};
  }
  [[nodiscard]] kernels::AttentionHead head(int h, const PlanShape& complete) const {
    const int64_t dim = shape.head_dim;
    const int64_t kv = h / (shape.heads / shape.kv_heads);
    return {.q = q.data() + h * shape.n_q * dim,
            .k = k.data() + kv * shape.n_kv * dim,
            .v = v.data() + kv * shape.n_kv * dim,
            .q_stride = dim,
            .k_stride = dim,
            .v_stride = dim,
            .n_q = shape.n_q,
            .n_kv = shape.n_kv,
            .head_dim = shape.head_dim,
            .scale = complete.scale,
            .softcap = complete.softcap};
  }
};

inline HeadConfig config_of(const PlanShape& shape, std::vector<std::vector<HeadEntry>> layers) {
  HeadConfig config;
  config.model.name = "test";
  config.model.layers = static_cast<int>(layers.size());
  config.model.heads = shape.heads;
  config.model.kv_heads = shape.kv_heads;
  config.model.head_dim = shape.head_dim;
  config.layers = std::move(layers);
  return config;
}

// Estimates of a head as libruntime makes them in f32: [row_blocks, n_kv].
inline std::vector<float> host_estimates(const runtime::Estimator& estimator,
                                         const kernels::AttentionHead& head) {
  const kernels::Backend& backend = **kernels::choose_backend("cpu_generic");
  const runtime::CallShape call{head.n_q, head.n_kv, head.head_dim};
  std::vector<float> evidence(estimator.evidence_floats(call));
  std::vector<float> scratch(estimator.scratch_floats(call));
  const int dim = std::max(head.head_dim, estimator.probability_dim(call));
  AlignedBuffer<char> kernel_scratch(backend.scratch_bytes(dim));
  const runtime::EstimatorMemory memory{evidence.data(), scratch.data(), kernel_scratch.data(),
                                        nullptr};
  std::vector<float> e(static_cast<size_t>(head.row_blocks() * head.n_kv));
  estimator.prepare(head, backend, memory);
  for (int64_t m = 0; m < head.row_blocks(); m += runtime::kEstimateGroup)
    estimator.rows(head, backend, memory, m,
                   std::min(head.row_blocks(), m + runtime::kEstimateGroup),
                   e.data() + m * head.n_kv, head.n_kv);
  return e;
}

// Keys with estimates above a threshold: surely, and perhaps.
struct KeyCount {
  int64_t sure = 0, perhaps = 0;
};
// What rounding may move an estimate by, relative: a few 1e-5 of a score with means of 16 bits.
inline constexpr float kDoubt = 5e-4f;
inline KeyCount keys_above(const float* e, int64_t keys, float lambda) {
  KeyCount count;
  for (int64_t j = 0; j < keys; ++j) {
    count.sure += e[j] > lambda * (1 + kDoubt) ? 1 : 0;
    count.perhaps += e[j] > lambda * (1 - kDoubt) ? 1 : 0;
  }
  return count;
}

// What is wrong with the keys that a row block of an estimating head attends.
inline std::string check_keys(const float* e, int64_t keys, float lambda, const uint64_t* words) {
  const KeyCount above = keys_above(e, keys, lambda);
  int64_t selected = 0;
  float least = HUGE_VALF, most = -HUGE_VALF;  // of the selected, of the others
  for (int64_t j = 0; j < kernels::bitmap_words(keys) * 64; ++j) {
    const bool is_selected = (words[j / 64] >> (j % 64) & 1) != 0;
    if (j >= keys) {
      if (is_selected) return "a key past the last one\n";
      continue;
    }
    selected += is_selected ? 1 : 0;
    (is_selected ? least : most) = is_selected ? std::min(least, e[j]) : std::max(most, e[j]);
  }
  const auto filled = [&](int64_t count) { return std::min(runtime::tiles_for(count) * 64, keys); };
  if (selected < filled(above.sure) || selected > filled(above.perhaps) ||
      (selected % 64 != 0 && selected != keys))
    return "keys: got " + std::to_string(selected) + ", expected " +
           std::to_string(filled(above.sure)) + " to " + std::to_string(filled(above.perhaps)) +
           "\n";
  // Keys of one code are equal; codes end twelve octaves below the threshold.
  const float code = std::exp2(1.0f / 16) * (1 + kDoubt);
  if (most > std::max(least * code, lambda * 0x1p-11f))
    return "a key of " + std::to_string(most) + " is left out, one of " + std::to_string(least) +
           " is not\n";
  return most > lambda * (1 + kDoubt) ? "a key above the threshold is left out\n" : "";
}

// One layer of a plan on the machine.
template <class T, int kDim>
class DeviceLayer {
 public:
  // `tensors` get the outputs; *unspent is handed on.
  DeviceLayer(const DeviceLayers& layers, int layer, LayerTensors<T>& tensors, double* unspent)
      : layers_(layers),
        layer_(layer),
        table_(layers.table().size()),
        workspace_(layers.workspace_bytes()),
        unspent_(unspent),
        reports_(static_cast<size_t>(layers.shape().heads)),
        launch_(make_launch<T, kDim, WaveCalls<T>>()) {
    std::copy(layers.table().begin(), layers.table().end(), table_.data);
    sequence_ = tensors.share(*launch_);
    seen_ = {launch_->input(table_.data, table_.size),
             launch_->output(workspace_.data, workspace_.size), launch_->output(unspent, 1),
             launch_->output(reports_)};
  }

  // What the machine found wrong.
  [[nodiscard]] std::string run(int wave) {
    const auto seen = layers_.wave(layer_, wave, sequence_, seen_).value();
    seen_words_ = seen.select.words;
    calls_ = layers_
                 .wave(layer_, wave, sequence_,
                       {table_.data, workspace_.data, unspent_, reports_.data()})
                 .value();
    return launch_->run(seen).wrong;
  }

  // The calls of the last run over the host's copy of memory.
  [[nodiscard]] const WaveCalls<T>& calls() const { return calls_; }
  // Bitmap of row block m of head i of the wave; null: it attends every key.
  [[nodiscard]] const uint64_t* attended(int i, int64_t m) const {
    const int64_t block = i * calls_.select.shape.row_blocks() + m;
    for (int64_t n = 0; n < calls_.index.size.blocks; ++n)
      if (calls_.index.items[n].selection == block)
        return calls_.select.words + (calls_.index.blocks[block].keys - seen_words_);
    return nullptr;
  }
  [[nodiscard]] const std::vector<kernels::cuda::HeadReport>& reports() const { return reports_; }

 private:
  const DeviceLayers& layers_;
  int layer_;
  DeviceBytes table_, workspace_;
  double* unspent_;
  std::vector<kernels::cuda::HeadReport> reports_;
  std::unique_ptr<Launch<WaveCalls<T>>> launch_;
  kernels::cuda::Sequence<T> sequence_;
  runtime::DeviceMemory seen_;
  const uint64_t* seen_words_ = nullptr;
  WaveCalls<T> calls_;
};

// One forward pass of a config over random layers. Empty if all is right.
template <class T, int kDim>
class DeviceRun {
 public:
  DeviceRun(const HeadConfig& config, const PlanShape& shape,
            const runtime::DeviceOptions& options = {})
      : layers_(*DeviceLayers::make(config, shape, options)),
        plans_(*runtime::plan_heads(config, layers_.shape())) {}

  std::string check(uint64_t seed, float sigma) {
    std::string wrong;
    double unspent = 0;
    for (int layer = 0; layer < layers_.layers() && wrong.empty(); ++layer) {
      LayerTensors<T> tensors(layers_.shape(), seed + 10 * static_cast<uint64_t>(layer), sigma);
      DeviceLayer<T, kDim> device(layers_, layer, tensors, &unspent);
      for (int wave = 0; wave < layers_.waves() && wrong.empty(); ++wave) {
        const double before = unspent;
        wrong = device.run(wave);
        if (wrong.empty()) wrong = check_wave(layer, device, tensors, before, unspent);
      }
    }
    return wrong;
  }

  // Of the last check: raises found, row blocks that ran dense for want of room.
  [[nodiscard]] const std::vector<int>& raises() const { return raises_; }
  [[nodiscard]] int64_t no_room() const { return no_room_; }

 private:
  // A head that shares a cap.
  struct Pooled {
    double second_look = 0;
    bool is_raised = false;
    double spent = 0;  // tiles
    // Tiles after each raise, by libruntime's estimates at least and at most.
    std::array<double, runtime::kRaises + 1> least{}, most{};
  };

  std::string check_wave(int layer, const DeviceLayer<T, kDim>& device, LayerTensors<T>& tensors,
                         double before, double after) {
    const WaveCalls<T>& calls = device.calls();
    const kernels::cuda::SelectCall& select = calls.select;
    int raise = 0;  // of those that were raised
    for (int i = 0; i < select.num_heads && calls.shares_cap; ++i)
      if (select.heads[i].shares_cap != 0) raise = std::max(raise, select.raises[i]);
    if (calls.shares_cap) raises_.push_back(raise);
    no_room_ += calls.index.totals->no_room;
    std::vector<Pooled> pool;
    std::string wrong;
    for (int i = 0; i < select.num_heads; ++i) {
      const int h = select.first_head + i;
      const runtime::HeadPlan& plan =
          plans_.layers[static_cast<size_t>(layer)][static_cast<size_t>(h)];
      const kernels::AttentionHead head = tensors.head(h, layers_.shape());
      const bool dense = plan.resolved.params.pattern == runtime::Pattern::dense;
      const bool spends = plan.resolved.spend_share;
      const bool pools = plan.tile_cap && !spends;
      const int steps = pools ? select.raises[i] : 0;
      Pooled pooled{.second_look = select.heads[i].second_look, .is_raised = steps > 0};
      const auto e = dense ? std::vector<float>() : host_estimates(*plan.estimator, head);
      float threshold = plan.resolved.lambda;
      if (spends) {
        threshold = host_threshold(plan, head, e);
        if (plan.resolved.params.pattern != runtime::Pattern::a_shape &&
            !is_threshold(calls.spend.found[i], threshold))
          wrong += "threshold of head " + std::to_string(h) + ": got " +
                   std::to_string(calls.spend.found[i]) + ", expected " +
                   std::to_string(threshold) + "\n";
      }
      int64_t tiles = 0;
      for (int64_t m = 0; m < head.row_blocks(); ++m) {
        const std::string place = std::to_string(layer) + "." + std::to_string(h) + ", row block " +
                                  std::to_string(m) + ": ";
        const int64_t keys = head.keys_end(m);
        const uint64_t* words = device.attended(i, m);
        const float* row = e.data() + m * head.n_kv;
        const auto lambda = [&](int n) { return runtime::raised(threshold, n); };
        if (words != nullptr)
          if (const std::string what = check_keys(row, keys, lambda(steps), words); !what.empty())
            wrong += place + what;
        int64_t count = keys;
        if (words != nullptr) {
          count = 0;
          for (int64_t w = 0; w < kernels::bitmap_words(keys); ++w)
            count += std::popcount(words[w]);
        }
        tiles += runtime::tiles_for(count);
        if (pools) {
          for (size_t n = 0; n <= runtime::kRaises; ++n) {
            const KeyCount above = keys_above(row, keys, lambda(static_cast<int>(n)));
            pooled.least[n] += static_cast<double>(runtime::tiles_for(above.sure));
            pooled.most[n] += static_cast<double>(runtime::tiles_for(above.perhaps));
          }
          const int64_t cut = (i * head.row_blocks() + m) * (runtime::kRaises + 1);
          pooled.spent += select.cuts[cut + steps].tiles;
        }
        wrong += check_output(tensors, head, h, m, words, place);
      }
      if (pools) pool.push_back(pooled);
      const kernels::cuda::HeadReport& report = calls.report.heads[i];
      if (report.tiles != tiles || report.raise != steps)
        wrong += "report of head " + std::to_string(h) + ": " + std::to_string(report.tiles) +
                 " tiles and " + std::to_string(report.raise) + " raises, expected " +
                 std::to_string(tiles) + " and " + std::to_string(steps) + "\n";
    }
    if (!calls.shares_cap) return after == before ? wrong : wrong + "unspent has changed\n";
    return wrong + check_raise(pool, raise, before + select.cap, after);
  }

  static std::string check_raise(const std::vector<Pooled>& pool, int raise, double affordable,
                                 double after) {
    std::vector<double> least(runtime::kRaises + 1), most(least);
    double spent = 0;
    bool useless = true;  // no head would be raised
    std::string wrong;
    for (const Pooled& head : pool) {
      for (size_t n = 0; n < least.size(); ++n) {
        const double look = n == 0 ? 0 : head.second_look;
        least[n] += std::min(head.least[0], look + head.least[n]);
        most[n] += std::min(head.most[0], look + head.most[n]);
      }
      spent += head.spent + (head.is_raised ? head.second_look : 0);
      const auto at = static_cast<size_t>(raise == 0 ? runtime::kRaises : raise);
      const bool may_pay = head.second_look + head.least[at] < head.most[0];
      const bool must_pay = head.second_look + head.most[at] < head.least[0];
      useless = useless && !must_pay;
      if (raise > 0 && (head.is_raised ? !may_pay : must_pay)) wrong += "a head raised in vain\n";
    }
    const auto steps = static_cast<size_t>(raise);
    const bool enough =
        raise == runtime::kRaises || least[steps] <= affordable || (raise == 0 && useless);
    const bool needed = raise == 0 || most[steps - 1] > affordable;
    if (!enough || !needed) wrong += "raise: got " + std::to_string(raise) + "\n";
    if (std::abs(after - (affordable - spent)) > 1e-9)
      wrong += "unspent: got " + std::to_string(after) + ", expected " +
               std::to_string(affordable - spent) + "\n";
    return wrong;
  }

  // That of libruntime, which spends the head's share.
  static float host_threshold(const runtime::HeadPlan& plan, const kernels::AttentionHead& head,
                              const std::vector<float>& e) {
    std::vector<uint32_t> bins(static_cast<size_t>(head.row_blocks() * runtime::kHistogramBins));
    for (int64_t m = 0; m < head.row_blocks(); ++m)
      runtime::count_bins(e.data() + m * head.n_kv, head.keys_end(m),
                          bins.data() + m * runtime::kHistogramBins);
    return runtime::lambda_for_tiles(bins, static_cast<int64_t>(std::max(0.0, *plan.tile_cap)));
  }
  // The device's ends where its codes do.
  static bool is_threshold(float got, float want) {
    if (want < 0x1p-25f) return got == kernels::cuda::kEveryDensity;
    return std::abs(got / std::min(want, 0x1.ep6f) - 1) < 1e-6f;
  }

  static std::string check_output(LayerTensors<T>& tensors, const kernels::AttentionHead& head,
                                  int h, int64_t m, const uint64_t* words,
                                  const std::string& place) {
    const Ideal ideal = ideal_of<T>(head, m, words);
    const double allowed = 2 * ideal.error + 6 * lse_tolerance(ideal) * (ideal.error > 0 ? 1 : 0);
    double worst = 0, worst_lse = 0;
    for (int r = 0; r < head.rows(m); ++r) {
      const int64_t row = h * head.n_q + head.first_row(m) + r;
      for (int x = 0; x < head.head_dim; ++x) {
        const auto got =
            static_cast<double>(to_float(tensors.o[static_cast<size_t>(row * head.head_dim + x)]));
        const double off = std::abs(got - ideal.o[static_cast<size_t>(r * head.head_dim + x)]);
        worst = std::isnan(off) ? HUGE_VAL : std::max(worst, off);
      }
      const double want = ideal.lse[static_cast<size_t>(r)];
      const auto got = static_cast<double>(tensors.lse[static_cast<size_t>(row)]);
      if (got == want) continue;
      const double off = std::abs(got - want);
      worst_lse = std::isnan(off) ? HUGE_VAL : std::max(worst_lse, off);
    }
    if (worst <= allowed && worst_lse <= lse_tolerance(ideal)) return "";
    return place + "errors of " + std::to_string(worst) + " and " + std::to_string(worst_lse) +
           ", allowed " + std::to_string(allowed) + " and " + std::to_string(lse_tolerance(ideal)) +
           "\n";
  }

  DeviceLayers layers_;
  runtime::HeadPlans plans_;
  std::vector<int> raises_;
  int64_t no_room_ = 0;
};

}  // namespace mi::test::cuda
