#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <random>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/uploads.h"
#include "kernels/cuda/work_list.h"
#include "tools/mi-bench/cuda/gemm.h"
#include "tools/mi-bench/cuda/plan_run.h"
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
using kernels::cuda::IndexCall;
using kernels::cuda::IndexSize;
using kernels::cuda::KeyRun;
using kernels::cuda::RowBlock;
using kernels::cuda::Selection;
using kernels::cuda::Sequence;
using kernels::cuda::Uploads;
using kernels::cuda::WorkItem;
using kernels::cuda::WorkList;

// A sample is as many launches as fill this: the gap before the first one, while the host gets it
// ready, is some 10 us.
constexpr double kSampleMs = 5;
constexpr int kMostLaunches = 100;

using Bitmap = std::vector<uint64_t>;  // empty: every key

struct Work {
  WorkList list;
  Bitmap words = {};  // of all row blocks, those of HeadWords
  Bitmap last = {};   // of the last row block of the last head
  int64_t tiles = 0;
};

// All row blocks of a layer; run: keys in a row, 0 for every key.
Work make_work(int64_t n, int64_t run, uint64_t seed) {
  Work work;
  std::mt19937_64 engine(seed);
  Bitmap bits(static_cast<size_t>(kernels::bitmap_words(n)));
  for (int h = 0; h < kHeads; ++h)
    for (int64_t m = 0; m < n / kernels::kRowBlock; ++m) {
      if (run > 0) {
        select_randomly(bits, m, run, engine);
        work.words.insert(work.words.end(), bits.begin(), bits.begin() + m + 1);
      }
      work.list.add(0, h, m, (m + 1) * kernels::kRowBlock, run > 0 ? bits.data() : nullptr);
    }
  if (run > 0) work.last = bits;
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

// Relative error of a row block of the last head over these keys.
Result<double> error_of(const LayerTensors& layer, const DeviceBuffer& output, int64_t block,
                        const Bitmap& keys) {
  const int64_t n = layer.n_kv, dim = layer.head_dim;
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
  AlignedBuffer<std::byte> scratch(backend->f32().scratch_bytes(layer.head_dim));
  backend->f32().attend(head, block, keys.empty() ? nullptr : keys.data(), want.data(), dim,
                        nullptr, scratch.data());
  std::vector<bf16> got(rows);
  const auto first = static_cast<size_t>(((kHeads - 1) * n + block * kernels::kRowBlock) * dim);
  MI_CHECK(output.download(got.data(), rows * sizeof(bf16), first * sizeof(bf16)));
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
  // Attention over what it gives, and the keys of the row block `compared` then; none: no output.
  DeviceStream::Work attend = {};
  std::function<Result<Bitmap>()> keys = {};
  int64_t compared = 0;
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
    MI_CHECK(add_index());
    MI_CHECK(add_plan(stream));
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
    std::vector<CudaRun> runs;
    for (Contestant& of : contestants_) {
      if (of.attend) {
        MI_CHECK(poison_output());
        MI_CHECK(stream.run(of.attend));
        MI_TRY(const Bitmap keys, of.keys());
        MI_TRY(of.run.error, error_of(layer_, output_.last(), of.compared, keys));
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

  // Useful FLOP of dense attention, or that share of them.
  [[nodiscard]] double flop(double share) const {
    const auto n = static_cast<double>(layer_.n_kv);
    return 2 * n * n * layer_.head_dim * kHeads * share;
  }
  [[nodiscard]] int64_t row_blocks() const { return layer_.n_kv / kernels::kRowBlock; }
  [[nodiscard]] DeviceStream::Work attention(const WorkItem* items, const Selection* selections,
                                             const KeyRun* runs, const int32_t* columns) const {
    const AttendCall<bf16> call{.sequences = sequence_,
                                .items = items,
                                .selections = selections,
                                .runs = runs,
                                .columns = columns,
                                .heads_per_kv = kHeads / kKvHeads,
                                .scale = scale()};
    return [call, count = kHeads * row_blocks(), dim = layer_.head_dim](CUstream_st* stream) {
      return kernels::cuda::launch_attend(call, count, dim, stream);
    };
  }

  Status add(const char* name, const Work& work) {
    const auto put = [&](const auto& values) { return inputs_.put(std::span(values)); };
    MI_TRY(const auto* items, put(work.list.items()));
    MI_TRY(const auto* selections, put(work.list.selections()));
    MI_TRY(const auto* runs, put(work.list.runs()));
    MI_TRY(const auto* columns, put(work.list.columns()));
    const double share =
        static_cast<double>(work.tiles) / static_cast<double>(selections_.dense.tiles);
    const DeviceStream::Work attend = attention(items, selections, runs, columns);
    contestants_.push_back({{.name = name,
                             .head_dim = layer_.head_dim,
                             .tokens = layer_.n_kv,
                             .flop = flop(share),
                             .executed = share},
                            attend,
                            attend,
                            [&work] { return Result<Bitmap>(work.last); },
                            row_blocks() - 1});
    return {};
  }

  // Of the single keys, the most columns.
  Status add_index() {
    const Work& work = selections_.single_keys;
    const int64_t n = layer_.n_kv;
    const HeadWords shape{n, n};
    MI_TRY(uint64_t* const words, inputs_.room<uint64_t>(work.words.size()));
    MI_CHECK(inputs_.last().upload(work.words.data(), inputs_.last().size()));
    std::vector<RowBlock> blocks;
    for (int h = 0; h < kHeads; ++h)
      for (int64_t m = 0; m < row_blocks(); ++m)
        blocks.push_back(
            kernels::cuda::row_block(0, h, m, n, n, words + h * shape.count() + shape.before(m)));
    // Room for what there is: the worst of bitmaps has six times as much.
    const IndexSize size{.blocks = std::ssize(blocks),
                         .runs = std::ssize(work.list.runs()),
                         .columns = std::ssize(work.list.columns()),
                         .most_tiles = static_cast<int32_t>(row_blocks())};
    const size_t bytes = kernels::cuda::index_bytes(size);
    MI_TRY(const RowBlock* on_device, inputs_.put(std::span(blocks)));
    MI_TRY(auto* const workspace, inputs_.room<std::byte>(bytes));
    MI_TRY(const IndexCall call, kernels::cuda::index_call(on_device, size, workspace, bytes));
    const DeviceStream::Work build = [call](CUstream_st* stream) {
      return kernels::cuda::launch_index(call, stream);
    };
    const DeviceStream::Work attend =
        attention(call.items, call.selections, call.runs, call.columns);
    contestants_.push_back({{.name = "index build", .head_dim = layer_.head_dim, .tokens = n},
                            build,
                            [build, attend](CUstream_st* stream) -> Status {
                              MI_CHECK(build(stream));
                              return attend(stream);
                            },
                            [&work] { return Result<Bitmap>(work.last); },
                            row_blocks() - 1});
    return {};
  }

  // The last row block runs dense: the one before it is compared.
  Status add_plan(DeviceStream& stream) {
    MI_TRY(plan_, PlanRun::with_share(tensors_, layer_.head_dim, kShare, stream));
    MI_TRY(const double share, plan_->executed());
    const DeviceStream::Work launch = [this](CUstream_st* on) { return plan_->launch(on); };
    contestants_.push_back({{.name = "stripe plan",
                             .head_dim = layer_.head_dim,
                             .tokens = layer_.n_kv,
                             .flop = flop(share),
                             .executed = share},
                            launch,
                            launch,
                            [this] { return plan_->keys(row_blocks() - 2); },
                            row_blocks() - 2});
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
  std::optional<PlanRun> plan_;
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
