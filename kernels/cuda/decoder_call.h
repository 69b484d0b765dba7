// What lies between the matrix products of a decoder layer on a device: norms, biases, the rotary
// embedding, the MLP's activation. Plain structs, read by the device as they are; all pointers are
// to device memory, all tensors contiguous. A row is a token's.
#pragma once

#include <cstdint>

#include "kernels/cuda/attend_call.h"

namespace mi::kernels::cuda {

// out = x / rms(x) * weight (RMSNorm, arXiv 1910.07467). T is bf16 or float.
template <class T>
struct NormCall {
  const float* x = nullptr;       // [rows, width]
  const float* weight = nullptr;  // [width]
  T* out = nullptr;               // [rows, width]; may be x
  int64_t rows = 0;
  int64_t width = 0;
  float eps = 0;
};

// stream += delta + bias, or its norm.
struct AddCall {
  float* stream = nullptr;       // [rows, width]
  const float* delta = nullptr;  // [rows, width]
  const float* bias = nullptr;   // [width] or null
  const float* norm = nullptr;   // [width] weights, or null: none
  int64_t rows = 0;
  int64_t width = 0;
  float eps = 0;
};

// q, k and v as attention reads them: biases added, heads of q and k normed, their pairs
// (i, i + turning/2) of the first `turning` dimensions rotated.
struct RotateCall {
  const float* qkv = nullptr;     // [rows, heads + 2 kv_heads, head_dim]
  bf16* out = nullptr;            // [rows, heads + 2 kv_heads, head_dim]
  const float* bias = nullptr;    // [heads + 2 kv_heads, head_dim] or null
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;  // [head_dim] or null
  const float* cosine = nullptr;  // [rows, turning/2]
  const float* sine = nullptr;    // [rows, turning/2]
  int64_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t turning = 0;
  float eps = 0;
};

// out = activation(gate) * up.
struct ActivateCall {
  static constexpr int64_t kEach = 8;  // elements a thread

  const float* gate = nullptr;  // [count]
  const float* up = nullptr;    // [count]
  bf16* out = nullptr;          // [count]
  int64_t count = 0;
  int32_t gelu = 0;  // 1: by its tanh formula; 0: silu
};

}  // namespace mi::kernels::cuda
