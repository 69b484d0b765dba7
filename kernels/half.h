// bfloat16, the upper half of an f32, and IEEE binary16. Storage only; arithmetic is done in f32.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace mi {

// Trivial, so that buffers of them may be zeroed at once.
struct bf16 {  // NOLINT(readability-identifier-naming): a scalar, named like one
  uint16_t bits;
};
struct f16 {  // NOLINT(readability-identifier-naming): a scalar, named like one
  uint16_t bits;
};

[[nodiscard]] inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
// Exact. The exponent is rebiased by a product, which also normalises subnormals; without a branch,
// so that loops over it become vector code.
[[nodiscard]] inline float to_float(f16 x) {
  const uint32_t sign = (x.bits & 0x8000U) << 16;
  const uint32_t magnitude = (x.bits & 0x7fffU) << 13;
  const uint32_t special = magnitude >= 0x0f800000U ? 0x7f800000U : 0;  // inf and NaN
  const float rebiased = std::bit_cast<float>(magnitude) * 0x1p112f;
  return std::bit_cast<float>(sign | special | std::bit_cast<uint32_t>(rebiased));
}

// Both round to nearest, ties to even; a NaN stays one.
[[nodiscard]] inline bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16)};
}
// Beyond 65504 and half a step more: infinite.
[[nodiscard]] inline f16 to_f16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  const auto signed_bits = [&](uint32_t h) { return f16{static_cast<uint16_t>(sign | h)}; };
  if (magnitude > 0x7f800000U) return signed_bits(0x7e00);
  if (magnitude >= 0x477ff000U) return signed_bits(0x7c00);
  // Below 2^-14 a sum with 1/2 leaves the subnormal's bits, rounded, at the low end.
  if (magnitude < 0x38800000U)
    return signed_bits(std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
                       0x3f000000U);
  return signed_bits((magnitude - 0x38000000U + 0xfffU + (magnitude >> 13 & 1U)) >> 13);
}
template <class T>
[[nodiscard]] T narrowed(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, f16>) {
    return to_f16(x);
  } else {
    return to_bf16(x);
  }
}

// to [rows, dim], contiguous; rows of `from` lie from_stride elements apart.
template <class T>
void widen(const T* from, int64_t from_stride, int64_t rows, int64_t dim, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t x = 0; x < dim; ++x) to[r * dim + x] = to_float(from[r * from_stride + x]);
}

}  // namespace mi
