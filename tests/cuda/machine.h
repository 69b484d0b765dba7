// What a check of a kernel needs of the machine under it: the emulator (on_emulator.h) or a device
// (on_device.h). A check is written once, over this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/attend_call.h"

namespace mi::test::cuda {

// Bytes [offset, offset + bytes) of some memory.
struct Part {
  size_t offset = 0;
  size_t bytes = 0;
  bool writable = false;
};

// Memory that kernels see.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  virtual ~Memory() = default;

  // Memory of which kernels may use `parts` and nothing else. Returns where they see it; what they
  // write there is at `data` after each run.
  [[nodiscard]] virtual void* share(void* data, size_t bytes, std::span<const Part> parts) = 0;

  template <class T>
  [[nodiscard]] const T* input(const T* data, size_t count) {
    const Part all{0, count * sizeof(T), false};
    return static_cast<const T*>(share(const_cast<T*>(data), all.bytes, {&all, 1}));  // NOLINT
  }
  template <class T>
  [[nodiscard]] const T* input(const std::vector<T>& data) {
    return input(data.data(), data.size());
  }
  template <class T>
  [[nodiscard]] T* output(T* data, size_t count) {
    const Part all{0, count * sizeof(T), true};
    return static_cast<T*>(share(data, all.bytes, {&all, 1}));
  }
  template <class T>
  [[nodiscard]] T* output(std::vector<T>& data) {
    return output(data.data(), data.size());
  }
};

struct Ran {
  std::string wrong;                // a line for each fault; empty if there was none
  std::optional<int64_t> products;  // mma instructions, of a warp each, where they are counted
};

// Memory, and launches over it, of what a launcher (EmulatedLaunch, runtime::Launcher) takes.
template <class... Call>
class Launch : public Memory {
 public:
  [[nodiscard]] virtual Ran run(const Call&... call) = 0;
};

template <class T>
struct Kernel {
  using AttendLaunch = Launch<kernels::cuda::AttendCall<T>, int64_t>;
  int head_dim = 0;
  int tile_keys = 0;
  std::function<std::unique_ptr<AttendLaunch>()> launch;
};

}  // namespace mi::test::cuda
