// A batch on a device or the stand-in of one: each sequence as if it were alone.
#include <catch2/catch.hpp>

#include <cstring>

#include "kernels/cuda/uploads.h"
#include "libruntime/cuda/device_batch_plan.h"
#include "tests/cuda/device_layer.h"
#include "tests/cuda/head_entries.h"

namespace mi::test::cuda {
namespace {

using kernels::cuda::HeadReport;
using kernels::cuda::Uploads;
using runtime::DeviceBatchPlan;
using runtime::DevicePlan;

constexpr int kHeads = 4, kKvHeads = 2, kDim = 64, kLayers = 2;

// Packed q, k and v of some tokens on the device, and room for o and lse; layer by layer anew.
struct Tensors {
  int64_t n_q, n_kv;
  Uploads memory;
  kernels::cuda::Sequence<bf16> seen;

  // Of q's rows those from first_q on, of k's and v's those from first_kv on.
  Tensors(const LayerTensors<bf16>& of, int64_t first_q, int64_t rows, int64_t first_kv,
          int64_t keys)
      : n_q(rows), n_kv(keys) {
    const auto part = [&](const AlignedBuffer<bf16>& all, int heads, int64_t first, int64_t count) {
      const int64_t tokens = static_cast<int64_t>(all.size()) / (heads * kDim);
      std::vector<bf16> packed;
      for (int h = 0; h < heads; ++h) {
        const bf16* from = all.data() + (h * tokens + first) * kDim;
        packed.insert(packed.end(), from, from + count * kDim);
      }
      return memory.put(std::span(packed)).value();
    };
    seen.q = {part(of.narrow_q, kHeads, first_q, rows), kDim, rows * kDim};
    seen.k = {part(of.narrow_k, kKvHeads, first_kv, keys), kDim, keys * kDim};
    seen.v = {part(of.narrow_v, kKvHeads, first_kv, keys), kDim, keys * kDim};
    seen.o = {memory.room<bf16>(static_cast<size_t>(kHeads * rows * kDim)).value(), kDim,
              rows * kDim};
    seen.lse = memory.room<float>(static_cast<size_t>(kHeads * rows)).value();
    seen.lse_head_stride = rows;
  }
  // Rows [first, first + count) of every head.
  [[nodiscard]] std::vector<bf16> o(int64_t first, int64_t count) const {
    return rows_of(seen.o.data, first * kDim, count * kDim, n_q * kDim);
  }
  [[nodiscard]] std::vector<float> lse(int64_t first, int64_t count) const {
    return rows_of(seen.lse, first, count, n_q);
  }

 private:
  template <class T>
  static std::vector<T> rows_of(const T* data, int64_t first, int64_t count, int64_t stride) {
    std::vector<T> rows(static_cast<size_t>(kHeads * count));
    for (int h = 0; h < kHeads; ++h)
      REQUIRE(kernels::cuda::download(rows.data() + h * count, data + h * stride + first,
                                      static_cast<size_t>(count) * sizeof(T)));
    return rows;
  }
};

// What a plan needs on the device.
template <class AnyPlan>
runtime::DeviceMemory memory_of(const AnyPlan& plan, size_t sequences, Uploads& uploads,
                                kernels::cuda::DeviceStream& stream) {
  auto* table = uploads.room<std::byte>(plan.table_bytes()).value();
  REQUIRE(stream.run([&](CUstream_st* on) { return plan.upload(table, on); }));
  std::vector<double> unspent(sequences, 0.0);
  std::vector<HeadReport> reports(sequences * kHeads);
  return {table, uploads.room<std::byte>(plan.workspace_bytes()).value(),
          uploads.put(std::span(unspent)).value(), uploads.put(std::span(reports)).value()};
}

template <class T>
std::vector<T> fetch(const T* from, size_t count) {
  std::vector<T> to(count);
  REQUIRE(kernels::cuda::download(to.data(), from, count * sizeof(T)));
  return to;
}

TEST_CASE("batch: sequences of unequal lengths, each as if alone") {
  MI_NEEDS_MACHINE();
  const std::vector<runtime::Sequence> sequences = {{65, 65}, {1, 130}, {65, 65}, {100, 257}};
  runtime::Sequence all;
  for (const auto& of : sequences) all = {all.n_q + of.n_q, all.n_kv + of.n_kv};
  PlanShape shape = shape_of(1, 1, kHeads, kKvHeads, kDim, runtime::Element::bf16);
  // The last one pools its cap.
  const std::vector<HeadEntry> layer = {stripe(0.3), HeadEntry{}, a_shape(100), stripe(0.3, 0.2)};
  HeadConfig config = config_of(shape, {layer, layer});
  config.kernel.last = 20;

  auto stream = kernels::cuda::DeviceStream::make().value();
  const auto batch = DeviceBatchPlan::make(config, shape, sequences).value();
  Uploads uploads;
  const auto memory = memory_of(batch, sequences.size(), uploads, stream);
  std::vector<DevicePlan> plans;
  std::vector<runtime::DeviceMemory> memories;
  for (const auto& of : sequences) {
    shape.n_q = of.n_q;
    shape.n_kv = of.n_kv;
    plans.push_back(DevicePlan::make(config, shape).value());
    memories.push_back(memory_of(plans.back(), 1, uploads, stream));
  }
  for (int l = 0; l < kLayers; ++l) {
    const LayerTensors<bf16> tensors(
        shape_of(all.n_q, all.n_kv, kHeads, kKvHeads, kDim, runtime::Element::bf16),
        static_cast<uint64_t>(l), 1.5f);
    const Tensors packed(tensors, 0, all.n_q, 0, all.n_kv);
    REQUIRE(stream.run([&](CUstream_st* on) { return batch.run(l, packed.seen, memory, on); }));
    runtime::Sequence first;
    for (size_t i = 0; i < sequences.size(); ++i) {
      INFO("layer " << l << ", sequence " << i);
      const auto& of = sequences[i];
      const Tensors alone(tensors, first.n_q, of.n_q, first.n_kv, of.n_kv);
      REQUIRE(stream.run(
          [&](CUstream_st* on) { return plans[i].run(l, alone.seen, memories[i], on); }));
      const auto same = [](const auto& a, const auto& b) {
        return a.size() == b.size() &&
               std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
      };
      CHECK(same(packed.o(first.n_q, of.n_q), alone.o(0, of.n_q)));
      CHECK(same(packed.lse(first.n_q, of.n_q), alone.lse(0, of.n_q)));
      CHECK(fetch(memory.unspent + i, 1) == fetch(memories[i].unspent, 1));
      const auto got = fetch(memory.reports + i * kHeads, kHeads);
      const auto want = fetch(memories[i].reports, kHeads);
      for (size_t h = 0; h < kHeads; ++h) CHECK(got[h].tiles == want[h].tiles);
      first = {first.n_q + of.n_q, first.n_kv + of.n_kv};
    }
  }
}

TEST_CASE("batch: refused without sequences, and by the sequence that cannot run") {
  PlanShape shape = shape_of(1, 1, kHeads, kKvHeads, kDim, runtime::Element::bf16);
  const HeadConfig config = config_of(shape, {std::vector<HeadEntry>(kHeads)});
  CHECK(DeviceBatchPlan::make(config, shape, {}).error().what ==
        "batch: got no sequence, expected at least one");
  const std::vector<runtime::Sequence> sequences = {{1, 1}, {3, 2}};
  const auto refused = DeviceBatchPlan::make(config, shape, sequences);
  REQUIRE(!refused);
  CHECK(refused.error().what.find("sequence 1: ") == 0);
}

}  // namespace
}  // namespace mi::test::cuda
