// What a decoder layer does to single rows between its matrix products. All of it is bound by
// memory: an 8192-token layer of 8B parameters moves 2 GB here, 1 ms of an H100's bandwidth beside
// 20 ms of products (computed, not measured), so the text is plain.
//
// State: run by the emulator of tests/cuda only, never on hardware.
#pragma once

#include "kernels/cuda/decoder_call.h"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile_shape.h"

namespace mi::kernels::cuda {

MI_DEVICE void put(float* to, float value) {
  ptx::store(to, value);
}
MI_DEVICE void put(bf16* to, float value) {
  ptx::store(to, bf16{static_cast<uint16_t>(ptx::pack<bf16>(value, 0.0f))});
}

MI_DEVICE float warp_sum(float x) {
  MI_UNROLL
  for (int mask = 1; mask < 32; mask *= 2) x += ptx::shuffle_xor(x, mask);
  return x;
}

// Sum of value_of(i)^2 over a row of `width`, the same in every thread. Once a block.
template <class ValueOf>
MI_DEVICE float block_square_sum(int64_t width, const ValueOf& value_of) {
  float sum = 0;
  for (int64_t i = ptx::thread(); i < width; i += kThreads) {
    const float x = value_of(i);
    sum = fmaf(x, x, sum);
  }
  sum = warp_sum(sum);
  const uint32_t shared = ptx::shared_base();
  if (ptx::thread() % 32 == 0) ptx::store_shared_float(shared + ptx::thread() / 32 * 4, sum);
  ptx::barrier();
  sum = 0;
  MI_UNROLL
  for (uint32_t w = 0; w < kWarps; ++w) sum += ptx::load_shared_float(shared + w * 4);
  return sum;
}
MI_DEVICE float inverse_rms(float square_sum, int64_t width, float eps) {
  return 1.0f / sqrtf(square_sum / static_cast<float>(width) + eps);
}

// A block of threads a row.
template <class T>
MI_DEVICE void block_norm(const NormCall<T>& call) {
  const float* x = call.x + ptx::block() * call.width;
  const auto value_of = [&](int64_t i) { return ptx::load(x + i); };
  const float inverse = inverse_rms(block_square_sum(call.width, value_of), call.width, call.eps);
  for (int64_t i = ptx::thread(); i < call.width; i += kThreads)
    put(call.out + ptx::block() * call.width + i,
        value_of(i) * inverse * ptx::load(call.weight + i));
}

// A block of threads a row.
MI_DEVICE void block_add(const AddCall& call) {
  const int64_t first = ptx::block() * call.width;
  const auto value_of = [&](int64_t i) {
    const float delta = ptx::load(call.delta + first + i);
    return call.bias == nullptr ? delta : delta + ptx::load(call.bias + i);
  };
  float inverse = 1;
  if (call.norm != nullptr)
    inverse = inverse_rms(block_square_sum(call.width, value_of), call.width, call.eps);
  for (int64_t i = ptx::thread(); i < call.width; i += kThreads) {
    const float weight = call.norm == nullptr ? 1.0f : ptx::load(call.norm + i);
    float* to = call.stream + first + i;
    ptx::store(to, ptx::load(to) + value_of(i) * inverse * weight);
  }
}

// One head's row: of q, then k, then v.
MI_DEVICE void warp_rotate(const RotateCall& call, int32_t head) {
  const int32_t lane = static_cast<int32_t>(ptx::thread() % 32);
  const int32_t dim = call.head_dim;
  const int64_t row = ptx::block() * (call.heads + 2 * call.kv_heads) + head;
  const bool is_v = head >= call.heads + call.kv_heads;
  const float* norm = is_v ? nullptr : head < call.heads ? call.q_norm : call.k_norm;
  const auto value_of = [&](int32_t i) {
    const float x = ptx::load(call.qkv + row * dim + i);
    return call.bias == nullptr ? x : x + ptx::load(call.bias + int64_t{head} * dim + i);
  };
  float inverse = 1;
  if (norm != nullptr) {
    float sum = 0;
    for (int32_t i = lane; i < dim; i += 32) sum = fmaf(value_of(i), value_of(i), sum);
    inverse = inverse_rms(warp_sum(sum), dim, call.eps);
  }
  const auto normed = [&](int32_t i) {
    return norm == nullptr ? value_of(i) : value_of(i) * inverse * ptx::load(norm + i);
  };
  bf16* out = call.out + row * dim;
  const int32_t turning = is_v ? 0 : call.turning;
  const int32_t half = turning / 2;
  for (int32_t i = lane; i < half; i += 32) {
    const int64_t angle = ptx::block() * half + i;
    const float cosine = ptx::load(call.cosine + angle);
    const float sine = ptx::load(call.sine + angle);
    const float a = normed(i);
    const float b = normed(i + half);
    put(out + i, a * cosine - b * sine);
    put(out + i + half, b * cosine + a * sine);
  }
  for (int32_t i = turning + lane; i < dim; i += 32) put(out + i, normed(i));
}
// A block of threads a row, its warps taking heads in turn.
MI_DEVICE void block_rotate(const RotateCall& call) {
  for (auto head = static_cast<int32_t>(ptx::thread() / 32); head < call.heads + 2 * call.kv_heads;
       head += kWarps)
    warp_rotate(call, head);
}

// x / (1 + e^-x); and x/2 (1 + tanh(y)) = x / (1 + e^-2y) with y = sqrt(2/pi) (x + 0.044715 x^3).
MI_DEVICE float activated(float x, bool gelu) {
  const float y = gelu ? 1.5957691216f * fmaf(0.044715f * x * x, x, x) : x;
  return x * ptx::reciprocal_approx(1.0f + ptx::exp2_approx(-kLog2e * y));
}
MI_DEVICE void block_activate(const ActivateCall& call) {
  const int64_t first = ptx::block() * (kThreads * ActivateCall::kEach);
  MI_UNROLL
  for (int64_t n = 0; n < ActivateCall::kEach; ++n) {
    const int64_t i = first + n * kThreads + ptx::thread();
    if (i >= call.count) return;
    put(call.out + i, activated(ptx::load(call.gate + i), call.gelu != 0) * ptx::load(call.up + i));
  }
}

}  // namespace mi::kernels::cuda
