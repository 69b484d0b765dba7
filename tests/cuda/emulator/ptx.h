// The functions of kernels/cuda/ptx.cuh on the emulator. Included before the kernels, by a host
// compiler.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/half.h"
#include "tests/cuda/emulator/block.h"

#define MI_DEVICE inline
#define MI_UNROLL
#define MI_UNROLL_BY_2
#define MI_NO_UNROLL

namespace mi::kernels::cuda::ptx {

using test::cuda::Block;

struct alignas(16) Bytes16 {
  uint32_t word[4];
};
struct alignas(8) Floats2 {
  float x[2];
};

inline uint32_t thread() {
  return static_cast<uint32_t>(Block::current().thread());
}
inline int64_t block() {
  return Block::current().index();
}
inline uint32_t shared_base() {
  return Block::current().shared().base();
}
inline void barrier() {
  Block::current().meet(Block::Meeting::kBarrier, nullptr);
}
inline void warp_barrier() {
  Block::current().meet(Block::Meeting::kWarpBarrier, nullptr);
}
inline uint32_t shuffle_xor(uint32_t x, int mask) {
  Block::Shuffle shuffle{x, mask, x};
  Block::current().meet(Block::Meeting::kShuffle, &shuffle);
  return shuffle.result;
}
inline float shuffle_xor(float x, int mask) {
  return std::bit_cast<float>(shuffle_xor(std::bit_cast<uint32_t>(x), mask));
}
inline int64_t shuffle_xor(int64_t x, int mask) {
  const uint64_t low = shuffle_xor(static_cast<uint32_t>(x), mask);
  const uint64_t high = shuffle_xor(static_cast<uint32_t>(x >> 32), mask);
  return static_cast<int64_t>(high << 32 | low);
}
inline bool any(bool x) {
  Block::Vote vote{x, x};
  Block::current().meet(Block::Meeting::kAny, &vote);
  return vote.result;
}

inline uint32_t bits_of(float x) {
  return std::bit_cast<uint32_t>(x);
}
inline float float_of(uint32_t bits) {
  return std::bit_cast<float>(bits);
}
inline int32_t count_bits(uint64_t x) {
  return std::popcount(x);
}
inline int32_t lowest_bit(uint64_t x) {
  return std::countr_zero(x);
}

template <class T>
T load(const T* global) {
  T value{};
  if (Block::current().check_global(global, sizeof(T), alignof(T), false))
    std::memcpy(static_cast<void*>(&value), global, sizeof(T));
  return value;
}
template <class T>
void store(T* global, T value) {
  // Floats have two zeros, so the trait says nothing of them.
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                    std::is_same_v<T, Floats2> || std::has_unique_object_representations_v<T>,
                "padding: bytes of memory that differ from run to run");
  if (Block::current().check_global(global, sizeof(T), alignof(T), true))
    std::memcpy(static_cast<void*>(global), &value, sizeof(T));
}
inline int32_t load_shared(uint32_t address) {
  int32_t value;
  Block::current().shared().read(Block::current().access(), address, &value, 4);
  return value;
}
inline void store_shared(uint32_t address, uint32_t value) {
  Block::current().shared().write(Block::current().access(), address, &value, 4);
}
inline float load_shared_float(uint32_t address) {
  return std::bit_cast<float>(load_shared(address));
}
inline void store_shared_float(uint32_t address, float value) {
  store_shared(address, std::bit_cast<uint32_t>(value));
}
inline void add_shared(uint32_t address, uint32_t value) {
  Block::current().shared().add(Block::current().access(), address, value);
}
inline Bytes16 load_shared_16(uint32_t address) {
  Bytes16 value;
  Block::current().shared().read(Block::current().access(), address, &value, 16);
  return value;
}

inline void copy_async(uint32_t shared, const void* global, bool present) {
  Block::current().copy_async(shared, global, present);
}
inline void commit_copies() {
  Block::current().commit_copies();
}
template <int kPending>
void wait_copies() {
  Block::current().wait_copies(kPending);
}

inline void load_matrices(uint32_t (&fragment)[4], uint32_t row_address, bool transposed) {
  Block::Matrices matrices{row_address, transposed, {}};
  Block::current().meet(Block::Meeting::kMatrices, &matrices);
  std::memcpy(fragment, matrices.fragment.data(), sizeof(fragment));
}
inline void load_matrices(uint32_t (&fragment)[4], uint32_t row_address) {
  load_matrices(fragment, row_address, false);
}
inline void load_matrices_transposed(uint32_t (&fragment)[4], uint32_t row_address) {
  load_matrices(fragment, row_address, true);
}

template <class T>
void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Block::Product product{d, a, {b0, b1}, [](uint16_t bits) { return to_float(T{bits}); }};
  Block::current().meet(Block::Meeting::kProduct, &product);
}

template <class T>
uint32_t pack(float low, float high) {
  return static_cast<uint32_t>(narrowed<T>(high).bits) << 16 | narrowed<T>(low).bits;
}
template <class T>
float unpack(uint32_t pair, int which) {
  return to_float(T{static_cast<uint16_t>(pair >> (16 * which))});
}

// .ftz: subnormal inputs and results are 0. None of the three is correctly rounded on a device.
inline float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
inline float exp2_approx(float x) {
  return flushed(std::exp2(flushed(x)));
}
inline float log2_approx(float x) {
  return std::log2(flushed(x));
}
inline float reciprocal_approx(float x) {
  return flushed(1 / flushed(x));
}

}  // namespace mi::kernels::cuda::ptx
