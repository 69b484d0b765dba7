#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/work_list.h"
#include "tools/mi-bench/cuda/gemm.h"
#include "tools/mi-bench/cuda_runs.h"
#include "tools/mi-bench/layer.h"
#include "tools/mi-bench/pattern_runs.h"

namespace mi::tools {
namespace {

using kernels::cuda::AttendCall;
using kernels::cuda::DeviceBuffer;
using kernels::cuda::DeviceStream;
using kernels::cuda::EstimateCall;
using kernels::cuda::HeadRule;
using kernels::cuda::HeadWords;
using kernels::cuda::Sequence;
using kernels::cuda::WorkList;

// A sample is as many launches as fill this: the gap before the first one, while the host gets it
// ready, is some 10 us.
constexpr double kSampleMs = 5;
constexpr int kMostLaunches = 100;

// Copies on the device that live as long as this.
class Uploads {
 public:
  template <class T>
  [[nodiscard]] Result<T*> put(std::span<T> from) {
    MI_TRY(T* const at, room<T>(from.size()));
    if (at != nullptr) MI_CHECK(buffers_.back().upload(from.data(), from.size_bytes()));
    return at;
  }
  // Unwritten.
  template <class T>
  [[nodiscard]] Result<T*> room(size_t count) {
    if (count == 0) return static_cast<T*>(nullptr);
    MI_TRY(DeviceBuffer buffer, DeviceBuffer::make(count * sizeof(T)));
    buffers_.push_back(std::move(buffer));
    return reinterpret_cast<T*>(buffers_.back().data());
  }
  [[nodiscard]] DeviceBuffer& last() { return buffers_.back(); }

 private:
  std::vector<DeviceBuffer> buffers_;
};

struct Work {
  WorkList list;
  int64_t tiles = 0;
};

// All row blocks of a layer; run: keys in a row, 0 for every key.
Work make_work(int64_t n, int64_t run, uint64_t seed) {
  Work work;
  std::mt19937_64 engine(seed);
  std::vector<uint64_t> bits(static_cast<size_t>(kernels::bitmap_words(n)));
  for (int h = 0; h < kHeads; ++h)
    for (int64_t m = 0; m < n / kernels::kRowBlock; ++m) {
      if (run > 0) select_randomly(bits, m, run, engine);
      work.list.add(0, h, m, (m + 1) * kernels::kRowBlock, run > 0 ? bits.data() : nullptr);
    }
  work.list.sort();
  for (size_t i = 0; i < work.list.items().size(); ++i)
    work.tiles += (work.list.keys(i) + kernels::kKeyTile - 1) / kernels::kKeyTile;
  return work;
}

// The selections of one length, for every head dimension.
struct Selections {
  Work dense, runs, single_keys;
  Selections(int64_t n, uint64_t seed)
      : dense(make_work(n, 0, seed)),
        runs(make_work(n, 64, seed + 3)),
        single_keys(make_work(n, 1, seed + 4)) {}
};

// Relative error of the last row block of the last head, whose selection `work` has.
Result<double> error_of(const LayerTensors& layer, const DeviceBuffer& output, const Work& work) {
  const int64_t n = layer.n_kv, dim = layer.head_dim;
  const int64_t block = n / kernels::kRowBlock - 1;
  std::vector<uint64_t> bits(static_cast<size_t>(kernels::bitmap_words(n)));
  for (const auto& item : work.list.items()) {
    if (item.head != kHeads - 1 || item.block != block || item.selection < 0) continue;
    const auto& selection = work.list.selections()[static_cast<size_t>(item.selection)];
    const auto set = [&](int64_t key) {
      bits[static_cast<size_t>(key / 64)] |= uint64_t{1} << (key % 64);
    };
    for (int64_t r = 0; r < selection.runs; ++r) {
      const auto at = static_cast<size_t>(selection.first_run + r);
      const int32_t end =
          r + 1 < selection.runs ? work.list.runs()[at + 1].position : selection.run_keys;
      for (int32_t i = work.list.runs()[at].position; i < end; ++i)
        set(work.list.runs()[at].key + i - work.list.runs()[at].position);
    }
    for (int64_t c = 0; c < selection.columns; ++c)
      set(work.list.columns()[static_cast<size_t>(selection.first_column + c)]);
  }
  const bool all = work.list.selections().empty();

  const auto widened = [](std::span<const bf16> from) {
    std::vector<float> to(from.size());
    std::transform(from.begin(), from.end(), to.begin(), [](bf16 x) { return to_float(x); });
    return to;
  };
  const auto elements = static_cast<size_t>(n * dim);
  const auto of_last = [&](const Tensor<bf16, 3>& tensor) {
    return widened(
        std::span(tensor.data(), static_cast<size_t>(tensor.view().size())).last(elements));
  };
  const auto q = of_last(layer.q), k = of_last(layer.k), v = of_last(layer.v);
  kernels::AttentionHead head;
  head.q = q.data();
  head.k = k.data();
  head.v = v.data();
  head.q_stride = head.k_stride = head.v_stride = dim;
  head.n_q = head.n_kv = n;
  head.head_dim = layer.head_dim;
  head.scale = 1 / std::sqrt(static_cast<float>(dim));
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend());
  const auto rows = static_cast<size_t>(kernels::kRowBlock * dim);
  AlignedBuffer<float> want(rows);
  AlignedBuffer<std::byte> scratch(backend->f32().scratch_bytes(layer.head_dim, n));
  backend->f32().attend(head, block, all ? nullptr : bits.data(), want.data(), dim, nullptr,
                        scratch.data());
  std::vector<bf16> got(rows);
  MI_CHECK(output.download(got.data(), rows * sizeof(bf16), output.size() - rows * sizeof(bf16)));
  double lost = 0, total = 0;
  for (size_t i = 0; i < rows; ++i) {
    const auto exact = static_cast<double>(want[i]);
    lost += std::pow(static_cast<double>(to_float(got[i])) - exact, 2);
    total += exact * exact;
  }
  return std::sqrt(lost / total);  // of NaN if any output is
}

struct Contestant {
  CudaRun run;
  DeviceStream::Work launch;
  int launches = 1;
};

class Group {
 public:
  Group(const BenchOptions& options, CublasGemm& gemm, const Selections& selections, int64_t n,
        int dim)
      : rounds_(options.rounds), selections_(selections), layer_(n, n, dim, options.seed) {
    contestants_.push_back(
        {{.name = "cuBLAS GEMM", .head_dim = dim, .tokens = n, .flop = CublasGemm::flop()},
         [&gemm](CUstream_st* stream) { return gemm.launch(stream); }});
  }

  Result<std::vector<CudaRun>> measure(DeviceStream& stream) {
    MI_CHECK(upload());
    MI_CHECK(add("dense", selections_.dense));
    MI_CHECK(add("runs of 64", selections_.runs));
    MI_CHECK(add("single keys", selections_.single_keys));
    MI_CHECK(add_stripes());
    for (Contestant& of : contestants_) {
      MI_TRY(const double first, stream.time(of.launch, 1));  // loads the code
      (void)first;
      MI_TRY(const double ms, stream.time(of.launch, 1));
      of.launches = static_cast<int>(std::clamp(kSampleMs / ms, 1.0, double{kMostLaunches}));
    }
    for (int round = 0; round < rounds_; ++round)
      for (Contestant& of : contestants_) {
        MI_TRY(const double ms, stream.time(of.launch, of.launches));
        of.run.ms.push_back(ms / of.launches);
      }
    const Work* const works[] = {&selections_.dense, &selections_.runs, &selections_.single_keys};
    std::vector<CudaRun> runs;
    for (size_t i = 0; i < contestants_.size(); ++i) {
      Contestant& of = contestants_[i];
      if (i >= kCudaDense && i <= kCudaSingleKeys) {
        MI_CHECK(poison_output());
        MI_CHECK(stream.run(of.launch));
        MI_TRY(of.run.error, error_of(layer_, output_.last(), *works[i - kCudaDense]));
      }
      runs.push_back(std::move(of.run));
    }
    return runs;
  }

 private:
  Status upload() {
    const int64_t n = layer_.n_kv, dim = layer_.head_dim;
    MI_TRY(const bf16* q, inputs_.put(layer_.q.span()));
    MI_TRY(const bf16* k, inputs_.put(layer_.k.span()));
    MI_TRY(const bf16* v, inputs_.put(layer_.v.span()));
    MI_TRY(bf16* const o, output_.room<bf16>(layer_.o.span().size()));
    const int64_t of_head = n * dim;
    tensors_ = {.q = {q, dim, of_head},
                .k = {k, dim, of_head},
                .v = {v, dim, of_head},
                .o = {o, dim, of_head},
                .n_q = n,
                .n_kv = n};
    MI_CHECK(kernels::cuda::check_sequence(tensors_));
    MI_TRY(sequence_, inputs_.put(std::span(&tensors_, 1)));
    return {};
  }
  Status poison_output() {
    std::fill(layer_.o.span().begin(), layer_.o.span().end(), bf16{0xffff});
    return output_.last().upload(layer_.o.data(), output_.last().size());
  }
  [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(layer_.head_dim)); }

  Status add(const char* name, const Work& work) {
    const auto put = [&](const auto& values) { return inputs_.put(std::span(values)); };
    MI_TRY(const auto* items, put(work.list.items()));
    MI_TRY(const auto* selections, put(work.list.selections()));
    MI_TRY(const auto* runs, put(work.list.runs()));
    MI_TRY(const auto* columns, put(work.list.columns()));
    const AttendCall<bf16> call{.sequences = sequence_,
                                .items = items,
                                .selections = selections,
                                .runs = runs,
                                .columns = columns,
                                .heads_per_kv = kHeads / kKvHeads,
                                .scale = scale()};
    const auto n = static_cast<double>(layer_.n_kv);
    const double share =
        static_cast<double>(work.tiles) / static_cast<double>(selections_.dense.tiles);
    const auto count = static_cast<int64_t>(work.list.items().size());
    contestants_.push_back({{.name = name,
                             .head_dim = layer_.head_dim,
                             .tokens = layer_.n_kv,
                             .flop = 2 * n * n * layer_.head_dim * kHeads * share,
                             .executed = share},
                            [call, count, dim = layer_.head_dim](CUstream_st* stream) {
                              return kernels::cuda::launch_attend(call, count, dim, stream);
                            }});
    return {};
  }

  // What the density is does not change the work.
  Status add_stripes() {
    const int64_t n_kv = layer_.n_kv;
    const HeadWords shape{n_kv, n_kv};
    MI_TRY(uint8_t* const codes,
           inputs_.room<uint8_t>(static_cast<size_t>(kHeads * shape.count() * 64)));
    std::vector<HeadRule> rules(kHeads, {.density = 1});
    std::vector<int32_t> which(kHeads);
    std::iota(which.begin(), which.end(), 0);
    MI_TRY(const HeadRule* const heads, inputs_.put(std::span(rules)));
    MI_TRY(const int32_t* const indices, inputs_.put(std::span(which)));
    const EstimateCall<bf16> call{.q = tensors_.q,
                                  .k = tensors_.k,
                                  .shape = shape,
                                  .heads = heads,
                                  .which = indices,
                                  .count = kHeads,
                                  .heads_per_kv = kHeads / kKvHeads,
                                  .scale = scale(),
                                  .codes = codes};
    // Products with the means and what they lost, in two passes.
    const auto n = static_cast<double>(layer_.n_kv);
    contestants_.push_back({{.name = "stripe estimate",
                             .head_dim = layer_.head_dim,
                             .tokens = layer_.n_kv,
                             .flop = 4 * n * n / kernels::kRowBlock * layer_.head_dim * kHeads},
                            [call, dim = layer_.head_dim](CUstream_st* stream) {
                              return kernels::cuda::launch_stripes(call, dim, stream);
                            }});
    return {};
  }

  int rounds_;
  const Selections& selections_;
  LayerTensors layer_;
  Uploads inputs_, output_;
  Sequence<bf16> tensors_;
  const Sequence<bf16>* sequence_ = nullptr;  // the same, on the device
  std::vector<Contestant> contestants_;
};

}  // namespace

Result<CudaRuns> measure_cuda(const BenchOptions& options) {
  CudaRuns runs;
  MI_TRY(runs.device, kernels::cuda::device_info());
  MI_TRY(DeviceStream stream, DeviceStream::make());
  MI_TRY(CublasGemm gemm, CublasGemm::make(options.seed));
  for (const int64_t length : options.lengths) {
    const int64_t n = length / kernels::kRowBlock * kernels::kRowBlock;
    const Selections selections(n, options.seed);
    for (const int dim : options.head_dims) {
      MI_TRY(auto group, Group(options, gemm, selections, n, dim).measure(stream));
      runs.groups.push_back(std::move(group));
    }
  }
  return runs;
}

}  // namespace mi::tools
