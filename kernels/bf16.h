// bfloat16: the upper half of an f32. Storage only; arithmetic is done in f32.
#pragma once

#include <bit>
#include <cstdint>

namespace mi {

struct bf16 {     // NOLINT(readability-identifier-naming): a scalar, named like one
  uint16_t bits;  // trivial, so that buffers of it may be zeroed at once
};

[[nodiscard]] inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

// to [rows, dim], contiguous; rows of `from` lie from_stride elements apart.
inline void widen(const bf16* from, int64_t from_stride, int64_t rows, int64_t dim, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t x = 0; x < dim; ++x) to[r * dim + x] = to_float(from[r * from_stride + x]);
}

// Rounds to nearest, ties to even; a NaN stays one.
[[nodiscard]] inline bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16)};
}

}  // namespace mi
