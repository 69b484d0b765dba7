// What the backends for bf16 input share: f32 input runs exactly as on cpu_avx512.
#pragma once

#include "kernels/cpu/cpu_backends.h"

namespace mi::kernels {

class Bf16Backend : public Backend {
 public:
  [[nodiscard]] const Backend& f32() const final { return cpu_avx512::backend(); }
  [[nodiscard]] Status available() const final {
    MI_CHECK(f32().available());
    const char* missing = missing_instruction();
    if (missing == nullptr) return {};
    return fail(Code::unsupported,
                "backend " + std::string(name()) + ": this CPU lacks " + missing);
  }
  [[nodiscard]] size_t scratch_bytes(int head_dim) const final {
    return f32().scratch_bytes(head_dim);
  }
  int64_t attend(const AttentionHead& head, int64_t block, const uint64_t* keys, float* o,
                 int64_t o_stride, float* lse, void* scratch) const final {
    return f32().attend(head, block, keys, o, o_stride, lse, scratch);
  }
  void probabilities(const ProbabilityRows& rows, void* scratch) const final {
    f32().probabilities(rows, scratch);
  }
  [[nodiscard]] uint64_t above(const float* e, int64_t count, float threshold) const final {
    return f32().above(e, count, threshold);
  }

 private:
  [[nodiscard]] virtual const char* missing_instruction() const = 0;  // null: none
};

}  // namespace mi::kernels
