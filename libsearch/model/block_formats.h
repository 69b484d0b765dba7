// The block-quantised types of GGUF files: how many elements share their scales, in how many
// bytes, and what they stand for.
#pragma once

#include <cstdint>

namespace mi::search {

// Each turns one block into its elements: 32 of the first group, 256 of the second.
void convert_q4_0(const uint8_t* block, float* out);
void convert_q4_1(const uint8_t* block, float* out);
void convert_q5_0(const uint8_t* block, float* out);
void convert_q5_1(const uint8_t* block, float* out);
void convert_q8_0(const uint8_t* block, float* out);

void convert_q4_k(const uint8_t* block, float* out);
void convert_q5_k(const uint8_t* block, float* out);
void convert_q6_k(const uint8_t* block, float* out);

[[nodiscard]] float from_f16(uint16_t bits);

}  // namespace mi::search
