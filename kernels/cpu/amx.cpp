// cpu_amx: bf16 input by AMX tiles; f32 input exactly as cpu_avx512 runs it.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/cpu/bf16_backend.h"
#include "kernels/cpu/target_region.h"

namespace mi::kernels::cpu_amx {

// Linux lends the tile registers' 8 KiB of state to a process that asks.
static bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

static const char* missing_tiles() {
  // Leaf 7 of cpuid; clang 14's __builtin_cpu_supports does not know AMX.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return "cpuid leaf 7";
  if ((edx >> 24 & 1) == 0) return "AMX tiles";
  if ((edx >> 22 & 1) == 0) return "AMX bf16";
  if (!__builtin_cpu_supports("avx512bf16")) return "AVX-512 BF16";
  if (!tiles_granted()) return "the kernel's permission for AMX tile data";
  return nullptr;
}

MI_TARGET_BEGIN("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma,popcnt,amx-tile,amx-bf16")
#include "kernels/cpu/isa_avx512-inl.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/bf16_pairs-inl.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/bf16_softmax-inl.h"
#include "kernels/cpu/bf16_probability-inl.h"
#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/amx_attention-inl.h"
#include "kernels/cpu/amx_probability-inl.h"
#include "kernels/cpu/score-inl.h"
#include "kernels/cpu/amx_score-inl.h"

inline void pack_tile(const KeyValueRows& rows, int64_t tile, std::byte* packed) {
  const int64_t size = unit_elements(rows.head_dim);
  const PackedRows out(packed, rows.head_dim, rows.n_kv);
  for (int64_t unit = 2 * tile; unit < 2 * tile + 2; ++unit) {
    const bf16* k[kUnitKeys];
    const bf16* v[kUnitKeys] = {};
    for (int t = 0; t < kUnitKeys; ++t) {
      // Past the end the last key is repeated; causality hides it.
      const int64_t key = std::min(unit * kUnitKeys + t, rows.n_kv - 1);
      k[t] = rows.k + key * rows.k_stride;
      if (rows.v != nullptr) v[t] = rows.v + key * rows.v_stride;
    }
    pack_unit_keys(k, rows.head_dim, const_cast<bf16*>(out.k) + unit * size);
    if (rows.v != nullptr)
      pack_unit_values(v, rows.head_dim, const_cast<bf16*>(out.v) + unit * size);
  }
}
MI_TARGET_END

class AmxBackend final : public Bf16Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "cpu_amx"; }
  int64_t codes_from(const uint8_t* code, int64_t keys, uint8_t threshold,
                     uint64_t* words) const override {
    return compare_codes(code, keys, threshold, words);
  }
  void score(const ScoreBlock& block, void* scratch) const override {
    if (block.rows.k == nullptr) return f32().score(block, scratch);
    score_block<TileProducts>(block, scratch);
  }
  [[nodiscard]] size_t score_scratch_bytes(int head_dim, int64_t n_kv,
                                           int most_levels) const override {
    return std::max(f32().score_scratch_bytes(head_dim, n_kv, most_levels),
                    score_scratch_bytes_of<TileProducts>(head_dim, n_kv, most_levels));
  }
  [[nodiscard]] size_t packed_bytes(int head_dim, int64_t n_kv) const override {
    const KeyValueRows rows{.n_kv = n_kv, .head_dim = head_dim};
    return static_cast<size_t>(rows.tiles() * 4 * unit_elements(head_dim)) * sizeof(bf16);
  }
  void pack(const KeyValueRows& rows, int64_t tile, std::byte* packed) const override {
    pack_tile(rows, tile, packed);
  }
  // 1.5 to 1.9 measured at 8192 and 32,768 tokens (mi-bench sparse, Sapphire Rapids): packing takes
  // a third of it, the rest is waiting for rows from L3.
  [[nodiscard]] double gather_price() const override { return 1.6; }
  void attend_packed(const PackedGroup& group, void* scratch) const override {
    attend_group(group, scratch);
  }
  void packed_probabilities(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                            void* scratch) const override {
    packed_probability_rows(rows, packed, n_kv, nullptr, scratch);
  }
  [[nodiscard]] bool has_codes() const override { return true; }
  void packed_codes(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                    const MassCodes& codes, void* scratch) const override {
    packed_probability_rows(rows, packed, n_kv, &codes, scratch);
  }
  void codes_of(const float* a, const float* b, int64_t keys, float threshold,
                uint8_t* code) const override {
    sum_codes(a, b, keys, threshold, code);
  }
  [[nodiscard]] size_t packed_scratch_bytes(int head_dim, int64_t /*n_kv*/) const override {
    return static_cast<size_t>(std::max(attend_scratch_floats(head_dim),
                                        RowSums<TileScores>::scratch_floats(head_dim))) *
           sizeof(float);
  }

 private:
  [[nodiscard]] const char* missing_instruction() const override { return missing_tiles(); }
};

const Backend& backend() {
  static const AmxBackend instance;
  return instance;
}

}  // namespace mi::kernels::cpu_amx
