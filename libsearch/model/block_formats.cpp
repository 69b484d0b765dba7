#include "libsearch/model/block_formats.h"

#include <bit>
#include <cstring>

namespace mi::search {
namespace {

template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float f16_at(const uint8_t* bytes) {
  return from_f16(load<uint16_t>(bytes));
}

// Byte i holds element i in its low and element i + 16 in its high half.
void convert_nibbles(const uint8_t* nibbles, float scale, float minimum, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(nibbles[i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(nibbles[i] >> 4) + minimum;
  }
}

// The same with a fifth bit of element i in bit i of four bytes before.
void convert_fives(const uint8_t* bits, float scale, float minimum, float* out) {
  const auto fifth = load<uint32_t>(bits);
  for (int i = 0; i < 16; ++i) {
    const uint32_t low = (bits[4 + i] & 15U) | (fifth >> i & 1U) << 4U;
    const uint32_t high = (bits[4 + i] >> 4U) | (fifth >> (i + 16) & 1U) << 4U;
    out[i] = scale * static_cast<float>(low) + minimum;
    out[i + 16] = scale * static_cast<float>(high) + minimum;
  }
}

// Q4_K and Q5_K: eight groups of 32, each with a scale and a minimum of six bits, in twelve bytes:
// those of groups 0-3 in the low bits of bytes 0-3 and 4-7; those of groups 4-7 in the halves of
// bytes 8-11, their top two bits above the former's.
struct GroupScale {
  float scale;
  float minimum;
};
GroupScale group_scale(const uint8_t* block, int group) {
  const float scale = f16_at(block);
  const float minimum = f16_at(block + 2);
  const auto packed = [&](int i) { return uint32_t{block[4 + i]}; };
  uint32_t s = 0, m = 0;
  if (group < 4) {
    s = packed(group) & 63U;
    m = packed(group + 4) & 63U;
  } else {
    s = (packed(group + 4) & 15U) | (packed(group - 4) >> 6U) << 4U;
    m = (packed(group + 4) >> 4U) | (packed(group) >> 6U) << 4U;
  }
  return {scale * static_cast<float>(s), minimum * static_cast<float>(m)};
}

}  // namespace

// IEEE half to single. Halves are rebased by one float multiply (exponent 112 up), which also
// turns subnormals right; infinities and NaN (exponent 31) are patched.
float from_f16(uint16_t bits) {
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffU) << 13U;
  float value = std::bit_cast<float>(magnitude) * 0x1p112F;
  if ((bits & 0x7c00U) == 0x7c00U) value = std::bit_cast<float>(magnitude | 0x7f800000U);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) |
                              (static_cast<uint32_t>(bits & 0x8000U) << 16U));
}

// An f16 scale, of the _1 types an f16 minimum, then the elements.
void convert_q4_0(const uint8_t* block, float* out) {
  const float scale = f16_at(block);
  convert_nibbles(block + 2, scale, -8 * scale, out);
}
void convert_q4_1(const uint8_t* block, float* out) {
  convert_nibbles(block + 4, f16_at(block), f16_at(block + 2), out);
}
void convert_q5_0(const uint8_t* block, float* out) {
  const float scale = f16_at(block);
  convert_fives(block + 2, scale, -16 * scale, out);
}
void convert_q5_1(const uint8_t* block, float* out) {
  convert_fives(block + 4, f16_at(block), f16_at(block + 2), out);
}
void convert_q8_0(const uint8_t* block, float* out) {
  const float scale = f16_at(block);
  for (int i = 0; i < 32; ++i)
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// Two f16, twelve bytes of group scales, 128 of nibbles: 32 bytes hold a group in their low halves
// and the next in their high ones.
void convert_q4_k(const uint8_t* block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    const uint8_t* nibbles = block + 16 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const uint32_t value = group % 2 == 0 ? nibbles[i] & 15U : nibbles[i] >> 4U;
      out[group * 32 + i] = scale * static_cast<float>(value) - minimum;
    }
  }
}

// As Q4_K, with 32 bytes before the nibbles: bit g of byte i is the fifth of element i of group g.
void convert_q5_k(const uint8_t* block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    const uint8_t* fifths = block + 16;
    const uint8_t* nibbles = block + 48 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const uint32_t low = group % 2 == 0 ? nibbles[i] & 15U : nibbles[i] >> 4U;
      const uint32_t value = low | (fifths[i] >> group & 1U) << 4U;
      out[group * 32 + i] = scale * static_cast<float>(value) - minimum;
    }
  }
}

// Two halves of 128, each four rows of 32: 64 bytes of low nibbles (rows 0 and 1 in the low halves
// of bytes 0-31 and 32-63, rows 2 and 3 in the high ones), 32 bytes of two high bits a row; then
// sixteen int8 scales, one for 16 elements, and an f16.
void convert_q6_k(const uint8_t* block, float* out) {
  const float scale = f16_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* lows = block + half * 64;
    const uint8_t* highs = block + 128 + half * 32;
    const uint8_t* scales = block + 192 + half * 8;
    for (int row = 0; row < 4; ++row) {
      for (int i = 0; i < 32; ++i) {
        const uint8_t byte = lows[row % 2 * 32 + i];
        const uint32_t low = row < 2 ? byte & 15U : byte >> 4U;
        const uint32_t value = low | (highs[i] >> 2 * row & 3U) << 4U;
        const auto own = static_cast<float>(static_cast<int8_t>(scales[row * 2 + i / 16]));
        out[half * 128 + row * 32 + i] = scale * own * (static_cast<float>(value) - 32);
      }
    }
  }
}

}  // namespace mi::search
