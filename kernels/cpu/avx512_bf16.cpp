// cpu_avx512_bf16: bf16 input by AVX-512's dot products of bf16 pairs; f32 input as cpu_avx512.
#include <immintrin.h>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/cpu/bf16_backend.h"
#include "kernels/cpu/target_region.h"

namespace mi::kernels::cpu_avx512_bf16 {

MI_TARGET_BEGIN("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma,popcnt")
#include "kernels/cpu/isa_avx512-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/bf16_pairs-inl.h"
#include "kernels/cpu/isa_avx512_bf16-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/bf16_softmax-inl.h"
#include "kernels/cpu/bf16_probability-inl.h"
#include "kernels/cpu/avx512_bf16_attention-inl.h"
#include "kernels/cpu/avx512_bf16_probability-inl.h"
#include "kernels/cpu/score-inl.h"
#include "kernels/cpu/avx512_bf16_score-inl.h"
#include "kernels/cpu/peak_avx512-inl.h"
MI_TARGET_END

// Rate of the dot product over that of f32 FMA, in FLOP: 0.54 on Intel Sapphire Rapids, where f32
// is the faster path; 2.0 on AMD Zen 4. Zen 5 was not measured.
// Short loops in turns, the fastest of each: an interrupt or a rising clock spoils some, not all.
// 15 microseconds.
static double measured_gain() {
  constexpr int kRounds = 10;
  constexpr int kRepeats = 100;
  const auto seconds_per_flop = [](double (*loop)(float*, int)) {
    float memory[16] = {1, 1};
    const auto start = std::chrono::steady_clock::now();
    const double flop = loop(memory, kRepeats);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    return spent.count() / flop;
  };
  double fma = 1;
  double dot = 1;
  for (int round = 0; round < kRounds; ++round) {
    fma = std::min(fma, seconds_per_flop(repeat_fma));
    dot = std::min(dot, seconds_per_flop(repeat_dot));
  }
  return fma / dot;
}

class Avx512Bf16Backend final : public Bf16Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "cpu_avx512_bf16"; }
  // The softmax costs the same on both paths and pairing comes on top: a gain below 1.3 is none.
  [[nodiscard]] bool preferred() const override {
    static const bool faster = measured_gain() >= 1.3;
    return faster;
  }
  [[nodiscard]] size_t packed_bytes(int head_dim, int64_t n_kv) const override {
    return static_cast<size_t>(PackedPairs::elements(head_dim, n_kv)) * sizeof(bf16);
  }
  void pack(const KeyValueRows& rows, int64_t tile, std::byte* packed) const override {
    pack_pairs(rows, tile, packed);
  }
  void attend_packed(const PackedGroup& group, void* scratch) const override {
    attend_pairs(group, scratch);
  }
  void packed_probabilities(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                            void* scratch) const override {
    probabilities_of_pairs(rows, packed, n_kv, scratch);
  }
  [[nodiscard]] bool has_codes() const override { return true; }
  void packed_codes(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                    const MassCodes& codes, void* scratch) const override {
    codes_of_pairs(rows, packed, n_kv, codes, scratch);
  }
  void codes_of(const float* a, const float* b, int64_t keys, float threshold,
                uint8_t* code) const override {
    sum_codes(a, b, keys, threshold, code);
  }
  int64_t codes_from(const uint8_t* code, int64_t keys, uint8_t threshold,
                     uint64_t* words) const override {
    return compare_codes(code, keys, threshold, words);
  }
  void score(const ScoreBlock& block, void* scratch) const override {
    if (block.rows.k == nullptr) return f32().score(block, scratch);
    score_block<PairProducts>(block, scratch);
  }
  [[nodiscard]] size_t score_scratch_bytes(int head_dim, int64_t n_kv,
                                           int most_levels) const override {
    return std::max(f32().score_scratch_bytes(head_dim, n_kv, most_levels),
                    score_scratch_bytes_of<PairProducts>(head_dim, n_kv, most_levels));
  }
  [[nodiscard]] size_t packed_scratch_bytes(int head_dim, int64_t n_kv) const override {
    return static_cast<size_t>(std::max(
               pair_scratch_floats(head_dim),
               RowSums<PairScores>::scratch_floats(head_dim) + KeptScores::scratch_floats(n_kv))) *
           sizeof(float);
  }

 private:
  [[nodiscard]] const char* missing_instruction() const override {
    return __builtin_cpu_supports("avx512bf16") ? nullptr : "AVX-512 BF16";
  }
};

const Backend& backend() {
  static const Avx512Bf16Backend instance;
  return instance;
}

}  // namespace mi::kernels::cpu_avx512_bf16
