// y = x W^T for a fixed number of rows, one thread per call: the unit of work of the decoder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/half.h"
#include "kernels/status.h"

namespace mi::search {

// Rows of x per call. Always this many (the last ones padded), so that a row's bits depend neither
// on the number of threads nor on how many rows follow it. 64, 128 and 256 rows are equally fast at
// width 576 (120 to 130 GFLOP/s per core with AVX-512); at width 4096 they reach 96, 108 and 115.
inline constexpr int kChunkRows = 128;

enum class Epilogue {
  none,
  silu,      // y = silu(x W^T)
  gelu,      // y = gelu(x W^T), by its tanh formula
  multiply,  // y = (x W^T) * factor, elementwise
};

// A oneDNN matmul of one shape with x and W of type In and f32 sums. Immutable after construction;
// calls run on the calling thread alone when made inside an OpenMP parallel region. oneDNN's
// exceptions pass through. In, Out: float, float; bf16, float; bf16, bf16.
template <class In, class Out>
class Linear {
 public:
  Linear(int in, int out, Epilogue epilogue);
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;
  ~Linear();

  [[nodiscard]] size_t packed_bytes() const;   // size of pack()'s result
  [[nodiscard]] size_t scratch_bytes() const;  // apply()'s scratch, one per thread

  // weight [out, in] as checkpoints hold it, to the layout that oneDNN's kernel wants.
  void pack(const float* weight, std::byte* packed) const;
  // x [kChunkRows, in], y and factor [kChunkRows, out], all contiguous. The scratch belongs to the
  // caller: a scratchpad inside a shared primitive is written by all threads at once.
  void apply(const In* x, const std::byte* packed, Out* y, const Out* factor,
             std::byte* scratch) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether oneDNN has bf16 products for this CPU: it wants AVX-512.
[[nodiscard]] Status bf16_linear_available();

}  // namespace mi::search
