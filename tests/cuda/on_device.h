// The kernels on the device of this machine, by the launch functions that the library offers.
#pragma once

#include <algorithm>
#include <utility>

#include "kernels/cuda/device.h"
#include "libruntime/cuda/launcher.h"
#include "tests/cuda/machine.h"

namespace mi::test::cuda::on_device {

inline constexpr bool kOnDevice = true;
inline Status machine_ready() {
  const auto info = kernels::cuda::device_info();
  return info ? Status{} : info.error();
}

// What the library launches: layers of a plan, and a decoder's rows.
template <class T>
struct Launcher : runtime::Launcher<T> {
  using runtime::Launcher<T>::operator();
  template <class Out>
  Status operator()(const kernels::cuda::NormCall<Out>& call) const {
    return kernels::cuda::launch_norm(call, this->stream);
  }
  Status operator()(const kernels::cuda::AddCall& call) const {
    return kernels::cuda::launch_add(call, this->stream);
  }
  Status operator()(const kernels::cuda::RotateCall& call) const {
    return kernels::cuda::launch_rotate(call, this->stream);
  }
  Status operator()(const kernels::cuda::ActivateCall& call) const {
    return kernels::cuda::launch_activate(call, this->stream);
  }
};

template <class T, int kHeadDim, class... Call>
class OnDevice final : public Launch<Call...> {
 public:
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
      if (part.writable)
        shared.outputs.push_back({part.offset, part.bytes});
      else
        note(shared.buffer.upload(shared.host + part.offset, part.bytes, part.offset));
    }
    shared_.push_back(std::move(shared));
    return shared_.back().buffer.data();
  }

  // Several times, the last ones as a CUDA graph: blocks of threads run in another order and at
  // other distances each time, and what changes with that is a race.
  Ran run(const Call&... call) override {
    constexpr int kRuns = 4;
    auto stream = kernels::cuda::DeviceStream::make();
    if (!stream) note(stream.error());
    for (Shared& shared : shared_)
      for (Output& output : shared.outputs)
        output.before.assign(shared.host + output.offset,
                             shared.host + output.offset + output.bytes);
    std::string wrong;
    for (int i = 0; i < kRuns && failed_; ++i) {
      for (Shared& shared : shared_)
        for (const Output& output : shared.outputs)
          note(shared.buffer.upload(output.before.data(), output.bytes, output.offset));
      const auto work = [&](CUstream_st* on) { return Launcher<T>{{kHeadDim, on}}(call...); };
      note(i < kRuns / 2 ? stream->run(work) : stream->run_as_graph(work));
      if (!fetch(i > 0)) wrong = "another result in run " + std::to_string(i) + "\n";
    }
    if (!failed_) wrong += failed_.what + "\n";
    return {wrong, std::nullopt};
  }

 private:
  struct Output {
    size_t offset, bytes;
    std::vector<std::byte> before = {};  // what each run begins with
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
        std::vector<std::byte> now(output.bytes);
        note(shared.buffer.download(now.data(), now.size(), output.offset));
        std::byte* const at = shared.host + output.offset;
        same = same && std::equal(now.begin(), now.end(), at);
        std::copy(now.begin(), now.end(), at);
      }
    return same || !expect_same;
  }

  std::vector<Shared> shared_;
  Status failed_;
};

template <class T, int kHeadDim, class... Call>
std::unique_ptr<Launch<Call...>> make_launch() {
  return std::make_unique<OnDevice<T, kHeadDim, Call...>>();
}

}  // namespace mi::test::cuda::on_device
