// Every instruction of the kernels that C++ has no word for, one small function each, and all
// access to memory that several threads share. Names and sections in brackets are those of the PTX
// ISA 8.7.
//
// Shared memory is addressed by 32-bit offsets in the shared state space. Under a host compiler
// this file is empty: tests/cuda/emulator/ptx.h defines the same functions.
#pragma once

#include <cstdint>

#include "kernels/half.h"

#ifdef __CUDACC__

#define MI_DEVICE __device__ __forceinline__
#define MI_UNROLL _Pragma("unroll")
#define MI_UNROLL_BY_2 _Pragma("unroll 2")
#define MI_NO_UNROLL _Pragma("unroll 1")

namespace mi::kernels::cuda::ptx {

struct alignas(16) Bytes16 {
  uint32_t word[4];
};
struct alignas(8) Floats2 {
  float x[2];
};

MI_DEVICE uint32_t thread() {
  return threadIdx.x;
}
MI_DEVICE int64_t block() {
  return static_cast<int64_t>(blockIdx.x);
}
// Address of the dynamic shared memory.
MI_DEVICE uint32_t shared_base() {
  extern __shared__ uint4 dynamic_shared[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(dynamic_shared));
}

// Of all threads of the block; orders their accesses to shared memory.
MI_DEVICE void barrier() {
  __syncthreads();
}
// Of the warp's 32 threads.
MI_DEVICE void warp_barrier() {
  __syncwarp();
}
MI_DEVICE float shuffle_xor(float x, int mask) {
  return __shfl_xor_sync(0xffffffffU, x, mask);
}
MI_DEVICE uint32_t shuffle_xor(uint32_t x, int mask) {
  return __shfl_xor_sync(0xffffffffU, x, mask);
}
MI_DEVICE int64_t shuffle_xor(int64_t x, int mask) {
  return __shfl_xor_sync(0xffffffffU, static_cast<long long>(x), mask);
}
// Whether it is true in any thread of the warp.
MI_DEVICE bool any(bool x) {
  return __any_sync(0xffffffffU, x) != 0;
}

MI_DEVICE int32_t count_bits(uint64_t x) {
  return __popcll(x);
}
// Position of the lowest bit that is set; x is not 0.
MI_DEVICE int32_t lowest_bit(uint64_t x) {
  return __ffsll(static_cast<long long>(x)) - 1;
}

template <class T>
MI_DEVICE T load(const T* global) {
  return *global;
}
template <class T>
MI_DEVICE void store(T* global, T value) {
  *global = value;
}
MI_DEVICE int32_t load_shared(uint32_t address) {
  int32_t value;
  asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
MI_DEVICE void store_shared(uint32_t address, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
MI_DEVICE float load_shared_float(uint32_t address) {
  return __int_as_float(load_shared(address));
}
MI_DEVICE void store_shared_float(uint32_t address, float value) {
  store_shared(address, __float_as_uint(value));
}
// Adds of several threads to one word need no barrier between them.
MI_DEVICE void add_shared(uint32_t address, uint32_t value) {
  asm volatile("red.shared.add.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
// 16-byte aligned.
MI_DEVICE Bytes16 load_shared_16(uint32_t address) {
  Bytes16 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.word[0]), "=r"(value.word[1]), "=r"(value.word[2]), "=r"(value.word[3])
               : "r"(address)
               : "memory");
  return value;
}

// 16 aligned bytes from global to shared memory, past L1; zeros if not `present` (cp.async). In
// flight until a wait of the same thread.
MI_DEVICE void copy_async(uint32_t shared, const void* global, bool present) {
  const int bytes = present ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(bytes)
               : "memory");
}
// Copies since the last commit become a group (cp.async.commit_group).
MI_DEVICE void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most kPending groups of this thread are in flight (cp.async.wait_group).
template <int kPending>
MI_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements; threads 8i .. 8i+7 hold the addresses of the rows of matrix
// i. Register i of thread t has elements 2(t%4) and 2(t%4)+1 of row t/4 of it (9.7.14.5.15).
MI_DEVICE void load_matrices(uint32_t (&fragment)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row_address)
               : "memory");
}
// The same with each matrix transposed.
MI_DEVICE void load_matrices_transposed(uint32_t (&fragment)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row_address)
               : "memory");
}

// d += a b, 16x16 times 16x8, sums in f32 (9.7.14.5.8: fragments of mma.m16n8k16). With g = t/4 and
// c = 2(t%4), thread t holds of a rows g (registers 0, 2) and g+8 (1, 3) at columns c, c+1 (0, 1)
// and c+8, c+9 (2, 3); of b column g at rows c, c+1 (0) and c+8, c+9 (1); of d rows g and g+8 at
// columns c, c+1.
template <class T>
MI_DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
MI_DEVICE void multiply_add<bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
MI_DEVICE void multiply_add<f16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two elements in a register, `low` in the lower half, rounded to nearest even (cvt).
template <class T>
MI_DEVICE uint32_t pack(float low, float high);
template <>
MI_DEVICE uint32_t pack<bf16>(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
template <>
MI_DEVICE uint32_t pack<f16>(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// The inverse: one element of the pair, exactly.
template <class T>
MI_DEVICE float unpack(uint32_t pair, int which);
template <>
MI_DEVICE float unpack<bf16>(uint32_t pair, int which) {
  return __uint_as_float(which == 0 ? pair << 16 : pair & 0xffff0000U);
}
template <>
MI_DEVICE float unpack<f16>(uint32_t pair, int which) {
  const auto bits = static_cast<uint16_t>(which == 0 ? pair : pair >> 16);
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

MI_DEVICE uint32_t bits_of(float x) {
  return __float_as_uint(x);
}
MI_DEVICE float float_of(uint32_t bits) {
  return __uint_as_float(bits);
}

// 2^x to 2 ulp, subnormal results flushed to 0; 2^-inf = 0 (ex2.approx).
MI_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// To an absolute error of 2^-22 near 1, else relative (lg2.approx).
MI_DEVICE float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// To 1 ulp; 1/inf = 0 (rcp.approx).
MI_DEVICE float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace mi::kernels::cuda::ptx

#endif
