// What the library launches, on the emulated device.
#pragma once

#include <cstdint>
#include <string>

#include "tests/cuda/emulator/ptx.h"

#include "kernels/cuda/antidiagonal.cuh"
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/decoder.cuh"
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/pooled.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/spend.cuh"
#include "kernels/cuda/stripe.cuh"
#include "kernels/cuda/vertical.cuh"
#include "kernels/status.h"

namespace mi::test::cuda {

// The launches of runtime::Launcher, kernel by kernel. Error: device, with a line for each fault.
template <class T, int kDim>
class EmulatedLaunch {
 public:
  EmulatedLaunch(const GlobalMemory& memory, int64_t& products)
      : memory_(memory), products_(products) {}

  Status operator()(const kernels::cuda::PutCall& call) const {
    return run(1, 32, 0, [&] { kernels::cuda::warp_put_words(call); });
  }
  Status operator()(const kernels::cuda::EstimateCall<T>& call) const {
    return run(call.count * call.groups(), kThreads, kernels::cuda::StripeShape<kDim>::kBytes,
               [&] { kernels::cuda::block_code_stripes<T, kDim>(call); });
  }
  Status operator()(const kernels::cuda::VerticalCall<T>& call) const {
    const int64_t count = call.of.count;
    constexpr uint32_t kBytes = kernels::cuda::VerticalShape<kDim>::kBytes;
    MI_CHECK(run(count * call.chunks(), kThreads, kBytes,
                 [&] { kernels::cuda::block_vertical<T, kDim, false>(call); }));
    MI_CHECK(run(count * call.chunks(), kThreads, kBytes,
                 [&] { kernels::cuda::block_vertical<T, kDim, true>(call); }));
    MI_CHECK(run(count * (call.stride() / call.kPositions), kThreads, kernels::cuda::kDiagonalBytes,
                 [&] { kernels::cuda::block_vertical_evidence(call); }));
    return run(count * call.of.shape.row_blocks(), kThreads, 0,
               [&] { kernels::cuda::block_vertical_codes(call); });
  }
  Status operator()(const kernels::cuda::PooledCall<T>& call) const {
    MI_CHECK(run(call.kv_heads * call.key_blocks(), kThreads, 0,
                 [&] { kernels::cuda::block_key_means(call); }));
    return run(call.of.count * call.of.shape.row_blocks(), kThreads,
               kernels::cuda::PooledShape::kBytes, [&] { kernels::cuda::block_code_pooled(call); });
  }
  Status operator()(const kernels::cuda::AntidiagonalCall<T>& call) const {
    return run(call.items(), kThreads, kernels::cuda::AntidiagonalShape<kDim>::kBytes,
               [&] { kernels::cuda::block_code_antidiagonals<T, kDim>(call); });
  }
  Status operator()(const kernels::cuda::SpendCall& call) const {
    using Shape = kernels::cuda::SelectShape;
    MI_CHECK(run(call.count * call.select.shape.row_blocks(), kThreads, Shape::kCutBytes,
                 [&] { kernels::cuda::block_count_tiles(call); }));
    return run(call.count, Shape::kCodes, Shape::kThresholdBytes,
               [&] { kernels::cuda::block_find_threshold(call); });
  }
  Status operator()(const kernels::cuda::SelectCall& call, bool shares_cap) const {
    using Shape = kernels::cuda::SelectShape;
    const int64_t blocks = call.num_heads * call.shape.row_blocks();
    MI_CHECK(
        run(blocks, kThreads, Shape::kCutBytes, [&] { kernels::cuda::block_find_cuts(call); }));
    if (shares_cap) {
      MI_CHECK(run(call.num_heads, kThreads, Shape::kSelectBytes,
                   [&] { kernels::cuda::block_add_tiles(call); }));
      MI_CHECK(run(1, 32, 0, [&] { kernels::cuda::warp_raise_thresholds(call); }));
    }
    return run(blocks, kThreads, Shape::kSelectBytes,
               [&] { kernels::cuda::block_select_keys(call); });
  }
  Status operator()(const kernels::cuda::IndexCall& call) const {
    using Shape = kernels::cuda::IndexShape;
    MI_CHECK(run(call.size.blocks, kThreads, Shape::kBytes,
                 [&] { kernels::cuda::block_count_keys(call); }));
    MI_CHECK(run(1, Shape::kOrderThreads, Shape::kOrderBytes,
                 [&] { kernels::cuda::block_order_items(call); }));
    return run(call.size.blocks, kThreads, Shape::kBytes,
               [&] { kernels::cuda::block_write_keys(call); });
  }
  Status operator()(const kernels::cuda::AttendCall<T>& call, int64_t items) const {
    return run(items, kThreads, kernels::cuda::TileShape<kDim>::kBytes,
               [&] { kernels::cuda::block_attend_item<T, kDim>(call); });
  }
  Status operator()(const kernels::cuda::ReportCall& call) const {
    return run(call.select.num_heads, kThreads, kernels::cuda::SelectShape::kSelectBytes,
               [&] { kernels::cuda::block_report_head(call); });
  }
  template <class Out>
  Status operator()(const kernels::cuda::NormCall<Out>& call) const {
    return run(call.rows, kThreads, kernels::cuda::kRowSumBytes,
               [&] { kernels::cuda::block_norm(call); });
  }
  Status operator()(const kernels::cuda::AddCall& call) const {
    return run(call.rows, kThreads, kernels::cuda::kRowSumBytes,
               [&] { kernels::cuda::block_add(call); });
  }
  Status operator()(const kernels::cuda::RotateCall& call) const {
    return run(call.rows, kThreads, 0, [&] { kernels::cuda::block_rotate(call); });
  }
  Status operator()(const kernels::cuda::ActivateCall& call) const {
    constexpr int64_t kOfBlock = int64_t{kThreads} * kernels::cuda::ActivateCall::kEach;
    return run((call.count + kOfBlock - 1) / kOfBlock, kThreads, 0,
               [&] { kernels::cuda::block_activate(call); });
  }
  // Of several: runtime::WaveCalls.
  template <class Calls>
  Status operator()(const Calls& calls) const {
    return for_each_launch(calls, *this);
  }

 private:
  static constexpr uint32_t kThreads = kernels::cuda::kThreads;
  // A conflict between banks is a fault: the layout of shared memory promises that there is none.
  template <class Kernel>
  Status run(int64_t blocks, uint32_t threads, uint32_t shared, const Kernel& kernel) const {
    const Report report = launch(blocks, static_cast<int>(threads), shared, memory_, kernel);
    products_ += report.products;
    std::string wrong = report.faults.text();
    if (report.bank_conflicts != 0)
      wrong += "bank conflicts: " + std::to_string(report.bank_conflicts) + "\n";
    return wrong.empty() ? Status{} : fail(Code::device, wrong);
  }
  const GlobalMemory& memory_;
  int64_t& products_;
};

}  // namespace mi::test::cuda
