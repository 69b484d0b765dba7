// The kernel text as the emulator runs it.
#pragma once

#include "tests/cuda/emulator/ptx.h"

#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/stripe.cuh"
#include "tests/cuda/machine.h"

namespace mi::test::cuda::on_emulator {

inline constexpr bool kOnDevice = false;
inline Status machine_ready() {
  return {};
}

template <class Call>
class OnEmulator final : public Launch<Call> {
 public:
  OnEmulator(uint32_t shared_bytes, void (*thread)(const Call&))
      : shared_bytes_(shared_bytes), thread_(thread) {}

  void* share(void* data, size_t /*bytes*/, std::span<const Part> parts) override {
    for (const Part& part : parts)
      memory_.add(static_cast<std::byte*>(data) + part.offset, part.bytes, part.writable);
    return data;
  }
  // A conflict between banks is a fault: the layout of shared memory promises that there is none.
  Ran run(const Call& call, int64_t items) override {
    const Report report =
        launch(items, kernels::cuda::kThreads, shared_bytes_, memory_, [&] { thread_(call); });
    std::string wrong = report.faults.text();
    if (report.bank_conflicts != 0)
      wrong += "bank conflicts: " + std::to_string(report.bank_conflicts) + "\n";
    return {wrong, report.products};
  }

 private:
  uint32_t shared_bytes_;
  void (*thread_)(const Call&);  // what one thread does
  GlobalMemory memory_;
};

template <class T, int kHeadDim>
Kernel<T> attend_kernel() {
  using Shape = kernels::cuda::TileShape<kHeadDim>;
  using Call = kernels::cuda::AttendCall<T>;
  return {kHeadDim, Shape::kKeys, [] {
            return std::make_unique<OnEmulator<Call>>(
                Shape::kBytes, kernels::cuda::block_attend_item<T, kHeadDim>);
          }};
}

template <class T, int kHeadDim>
std::unique_ptr<Launch<kernels::cuda::EstimateCall<T>>> stripe_launch() {
  return std::make_unique<OnEmulator<kernels::cuda::EstimateCall<T>>>(
      kernels::cuda::StripeShape<kHeadDim>::kBytes, kernels::cuda::block_code_stripes<T, kHeadDim>);
}

}  // namespace mi::test::cuda::on_emulator
