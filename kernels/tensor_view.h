// Views and owners of row-major tensors. A view never owns; a copy is spelled out with clone().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace mi {

// Strides are in elements; the innermost dimension is contiguous.
template <class T, int Rank>
struct TensorView {
  T* data = nullptr;
  std::array<int64_t, Rank> extent{};
  std::array<int64_t, Rank> stride{};

  TensorView() = default;
  TensorView(T* pointer, std::array<int64_t, Rank> shape) : data(pointer), extent(shape) {
    int64_t step = 1;
    for (int axis = Rank - 1; axis >= 0; --axis) {
      stride[static_cast<size_t>(axis)] = step;
      step *= extent[static_cast<size_t>(axis)];
    }
  }
  TensorView(T* pointer, std::array<int64_t, Rank> shape, std::array<int64_t, Rank> strides)
      : data(pointer), extent(shape), stride(strides) {}
  template <class U>
  requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
      TensorView(const TensorView<U, Rank>& other)  // NOLINT: a view of const is a view
      : data(other.data), extent(other.extent), stride(other.stride) {}

  [[nodiscard]] int64_t size() const {
    int64_t product = 1;
    for (int64_t e : extent) product *= e;
    return product;
  }
  // The sub-tensor at index i of the outermost dimension.
  [[nodiscard]] TensorView<T, Rank - 1> operator[](int64_t i) const requires(Rank > 1) {
    TensorView<T, Rank - 1> inner;
    inner.data = data + i * stride[0];
    for (size_t axis = 1; axis < Rank; ++axis) {
      inner.extent[axis - 1] = extent[axis];
      inner.stride[axis - 1] = stride[axis];
    }
    return inner;
  }
  [[nodiscard]] T& operator[](int64_t i) const requires(Rank == 1) { return data[i]; }
};

// 64-byte aligned, zero-initialised memory for trivial types; resize() does not keep the content.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t count) { resize(count); }
  void resize(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    data_.reset(count == 0 ? nullptr : static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (count != 0 && !data_) throw std::bad_alloc();
    size_ = count;
    if (count != 0) std::memset(data_.get(), 0, bytes);
  }
  [[nodiscard]] T* data() { return data_.get(); }
  [[nodiscard]] const T* data() const { return data_.get(); }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::span<T> span() { return {data_.get(), size_}; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* pointer) const { std::free(pointer); }  // NOLINT
  };
  std::unique_ptr<T[], Free> data_;
  size_t size_ = 0;
};

// Owner of a contiguous tensor.
template <class T, int Rank>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::array<int64_t, Rank> shape) : shape_(shape) {
    buffer_.resize(static_cast<size_t>(view().size()));
  }
  [[nodiscard]] TensorView<T, Rank> view() { return {buffer_.data(), shape_}; }
  [[nodiscard]] TensorView<const T, Rank> view() const { return {buffer_.data(), shape_}; }
  [[nodiscard]] Tensor clone() const {
    Tensor copy(shape_);
    std::memcpy(copy.buffer_.data(), buffer_.data(), buffer_.size() * sizeof(T));
    return copy;
  }
  [[nodiscard]] T* data() { return buffer_.data(); }
  [[nodiscard]] const T* data() const { return buffer_.data(); }
  [[nodiscard]] int64_t extent(int axis) const { return shape_[static_cast<size_t>(axis)]; }
  [[nodiscard]] std::span<T> span() { return buffer_.span(); }

 private:
  std::array<int64_t, Rank> shape_{};
  AlignedBuffer<T> buffer_;
};

}  // namespace mi
