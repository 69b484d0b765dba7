// Arrays on the device that live as long as this.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"

namespace mi::kernels::cuda {

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
    MI_TRY(auto buffer, DeviceBuffer::make(count * sizeof(T)));
    buffers_.push_back(std::move(buffer));
    return reinterpret_cast<T*>(buffers_.back().data());
  }
  [[nodiscard]] DeviceBuffer& last() { return buffers_.back(); }

 private:
  std::vector<DeviceBuffer> buffers_;
};

}  // namespace mi::kernels::cuda
