// The kernel text as the emulator runs it.
#pragma once

#include "tests/cuda/emulated_launch.h"
#include "tests/cuda/machine.h"

namespace mi::test::cuda::on_emulator {

inline constexpr bool kOnDevice = false;
inline Status machine_ready() {
  return {};
}

template <class T, int kHeadDim, class... Call>
class OnEmulator final : public Launch<Call...> {
 public:
  void* share(void* data, size_t /*bytes*/, std::span<const Part> parts) override {
    for (const Part& part : parts)
      memory_.add(static_cast<std::byte*>(data) + part.offset, part.bytes, part.writable);
    return data;
  }
  Ran run(const Call&... call) override {
    int64_t products = 0;
    const Status done = EmulatedLaunch<T, kHeadDim>(memory_, products)(call...);
    return {done.what, products};
  }

 private:
  GlobalMemory memory_;
};

template <class T, int kHeadDim, class... Call>
std::unique_ptr<Launch<Call...>> make_launch() {
  return std::make_unique<OnEmulator<T, kHeadDim, Call...>>();
}

}  // namespace mi::test::cuda::on_emulator
