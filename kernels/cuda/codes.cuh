// Estimates as bytes: MassCodes of kernels/backend.h, or where a threshold is still to be found the
// eighth of an octave that they lie in.
#pragma once

#include "kernels/cuda/estimate_call.h"
#include "kernels/cuda/ptx.cuh"

namespace mi::kernels::cuda {

// How estimates of a head become codes.
struct Coder {
  float threshold;  // its log2; 0 where it is still to be found
  bool bins;
  bool every_key;

  template <class T>
  MI_DEVICE Coder(const EstimateCall<T>& call, int64_t index) : bins(call.bins != 0) {
    const HeadRule* rule = call.heads + index;
    const bool spends = ptx::load(&rule->spend_tiles) >= 0;
    const float density = bins     ? 1.0f
                          : spends ? ptx::load(call.found + index)
                                   : ptx::load(&rule->density);
    every_key = density == kEveryDensity;
    threshold = ptx::log2_approx(density);
  }
  // Code of an estimate 2^x times the threshold.
  [[nodiscard]] MI_DEVICE uint32_t code(float x) const {
    if (every_key) return 255;
    if (bins) {
      // Exponent and the three highest bits of the mantissa order positive floats into bins.
      const auto bin = static_cast<int32_t>(ptx::bits_of(ptx::exp2_approx(x)) >> kBinShift);
      const int32_t above = bin - kFirstBin;
      return static_cast<uint32_t>(above < 0 ? 0 : above > 254 ? 254 : above);
    }
    const float code = floorf(fmaf(x, 16.0f, static_cast<float>(kCodeAtThreshold)));
    return static_cast<uint32_t>(fminf(fmaxf(code, 0.0f), 255.0f));
  }
};

// Parts [begin, end), of 16 each, of the 64 codes of a key block, all the same.
MI_DEVICE void thread_store_block(uint8_t* codes, uint32_t code, int begin, int end) {
  const uint32_t four = code * 0x01010101U;
  for (int part = begin; part < end; ++part)
    ptx::store(reinterpret_cast<ptx::Bytes16*>(codes + part * 16), {four, four, four, four});
}

}  // namespace mi::kernels::cuda
