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

}  // namespace mi::kernels::cuda
