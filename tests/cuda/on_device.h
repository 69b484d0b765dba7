// The kernels on the device of this machine, by the launch functions that the library offers.
#pragma once

#include <cstring>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile_shape.h"
#include "tests/cuda/machine.h"

namespace mi::test::cuda::on_device {

inline constexpr bool kOnDevice = true;
inline Status machine_ready() {
  const auto info = kernels::cuda::device_info();
  return info ? Status{} : info.error();
}

template <class Call>
class OnDevice final : public Launch<Call> {
 public:
  using Start = std::function<Status(const Call&, int64_t, CUstream_st*)>;
  explicit OnDevice(Start start) : start_(std::move(start)) {}

  // Each memory is an allocation of its own, so that compute-sanitizer knows its end.
  void* share(void* data, size_t bytes, std::span<const Part> parts) override {
    if (bytes == 0) return nullptr;
    auto buffer = kernels::cuda::DeviceBuffer::make(bytes);
    if (!buffer) {
      note(buffer.error());
      return nullptr;
    }
    Shared shared{static_cast<std::byte*>(data), std::move(*buffer), {}};
    for (const Part& part : parts) {
      note(shared.buffer.upload(shared.host + part.offset, part.bytes, part.offset));
      if (part.writable)
        shared.outputs.push_back(
            {part.offset, std::vector<std::byte>(shared.host + part.offset,
                                                 shared.host + part.offset + part.bytes)});
    }
    shared_.push_back(std::move(shared));
    return shared_.back().buffer.data();
  }

  // Several times, the last ones as a CUDA graph: blocks of threads run in another order and at
  // other distances each time, and what changes with that is a race.
  Ran run(const Call& call, int64_t items) override {
    constexpr int kRuns = 4;
    auto stream = kernels::cuda::DeviceStream::make();
    if (!stream) note(stream.error());
    std::string wrong;
    for (int i = 0; i < kRuns && failed_; ++i) {
      for (Shared& shared : shared_)
        for (const Output& output : shared.outputs)
          note(shared.buffer.upload(output.before.data(), output.before.size(), output.offset));
      const auto work = [&](CUstream_st* on) { return start_(call, items, on); };
      note(i < kRuns / 2 ? stream->run(work) : stream->run_as_graph(work));
      if (!fetch(i > 0)) wrong = "another result in run " + std::to_string(i) + "\n";
    }
    if (!failed_) wrong += failed_.what + "\n";
    return {wrong, std::nullopt};
  }

 private:
  struct Output {
    size_t offset;
    std::vector<std::byte> before;
  };
  struct Shared {
    std::byte* host;
    kernels::cuda::DeviceBuffer buffer;
    std::vector<Output> outputs;
  };

  void note(Status status) {
    if (failed_) failed_ = std::move(status);
  }
  // Brings outputs back; false if they are not, bit by bit, those that are there already.
  bool fetch(bool expect_same) {
    bool same = true;
    for (const Shared& shared : shared_)
      for (const Output& output : shared.outputs) {
        std::vector<std::byte> now(output.before.size());
        note(shared.buffer.download(now.data(), now.size(), output.offset));
        std::byte* const at = shared.host + output.offset;
        same = same && std::memcmp(at, now.data(), now.size()) == 0;
        std::memcpy(at, now.data(), now.size());
      }
    return same || !expect_same;
  }

  Start start_;
  std::vector<Shared> shared_;
  Status failed_;
};

template <class T, int kHeadDim>
Kernel<T> attend_kernel() {
  using Call = kernels::cuda::AttendCall<T>;
  return {kHeadDim, kernels::cuda::TileShape<kHeadDim>::kKeys, [] {
            return std::make_unique<OnDevice<Call>>(
                [](const Call& call, int64_t items, CUstream_st* stream) {
                  return kernels::cuda::launch_attend(call, items, kHeadDim, stream);
                });
          }};
}

template <class T, int kHeadDim>
std::unique_ptr<Launch<kernels::cuda::EstimateCall<T>>> stripe_launch() {
  using Call = kernels::cuda::EstimateCall<T>;
  return std::make_unique<OnDevice<Call>>(
      [](const Call& call, int64_t /*items*/, CUstream_st* stream) {
        return kernels::cuda::launch_stripes(call, kHeadDim, stream);
      });
}

}  // namespace mi::test::cuda::on_device
