// Estimates as bytes (MassCodes of kernels/backend.h).
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/ptx.cuh"

namespace mi::kernels::cuda {

// Code of an estimate 2^x times the threshold.
MI_DEVICE uint32_t code_of(float x) {
  const float code = floorf(fmaf(x, 16.0f, static_cast<float>(kCodeAtThreshold)));
  return static_cast<uint32_t>(fminf(fmaxf(code, 0.0f), 255.0f));
}

// Parts [begin, end), of 16 each, of the 64 codes of a key block, all the same.
MI_DEVICE void thread_store_block(uint8_t* codes, uint32_t code, int begin, int end) {
  const uint32_t four = code * 0x01010101U;
  for (int part = begin; part < end; ++part)
    ptx::store(reinterpret_cast<ptx::Bytes16*>(codes + part * 16), {four, four, four, four});
}

}  // namespace mi::kernels::cuda
