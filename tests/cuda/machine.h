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

struct Ran {
  std::string wrong;                // a line for each fault; empty if there was none
  std::optional<int64_t> products;  // mma instructions, of a warp each, where they are counted
};

// One launch: its memory, then its run.
template <class Call>
class Launch {
 public:
  Launch() = default;
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
  virtual ~Launch() = default;

  // Memory of which the kernel may use `parts` and nothing else. Returns where the kernel sees it;
  // what is written there is at `data` after run().
  [[nodiscard]] virtual void* share(void* data, size_t bytes, std::span<const Part> parts) = 0;
  [[nodiscard]] virtual Ran run(const Call& call, int64_t items) = 0;

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
};

template <class Call>
using MakeLaunch = std::function<std::unique_ptr<Launch<Call>>()>;

template <class T>
struct Kernel {
  int head_dim = 0;
  int tile_keys = 0;
  MakeLaunch<kernels::cuda::AttendCall<T>> launch;
};

}  // namespace mi::test::cuda
