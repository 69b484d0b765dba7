// The arithmetic of sparse attention, one object per instruction set. A backend works on one head
// and one row block at a time, from one thread, without allocating; parallel loops and memory
// belong to the caller. All patterns, the search and the runtime are written over these calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.h"
#include "kernels/packed.h"
#include "kernels/status.h"

namespace mi::kernels {

// Softmax rows of a few queries over many keys: the one primitive under every estimator.
struct ProbabilityRows {
  const float* q = nullptr;  // [rows, dim]
  int64_t q_stride = 0;
  int rows = 0;              // 1..64
  const float* k = nullptr;  // [max(visible), dim]
  int64_t k_stride = 0;
  int dim = 0;
  float scale = 0;
  float softcap = 0;
  const int64_t* visible = nullptr;  // [rows]: row r sees keys [0, visible[r]), visible[r] >= 1
  float* p = nullptr;    // [rows, p_stride]: written for keys [0, max(visible)), 0 beyond
  int64_t p_stride = 0;  // the row's own limit
};

// Where probabilities lie against a threshold, sixteen codes an octave; two octaves up and more can
// be told apart above it, twelve below.
inline constexpr uint8_t kCodeAtThreshold = 192;
struct MassCodes {
  float threshold = 0;      // > 0
  uint8_t* code = nullptr;  // [rows, stride]: kCodeAtThreshold + floor(16 log2(p / threshold)),
  int64_t stride = 0;       // clamped; not written beyond a row's limit
};

// One family of nested selections: level[j] is the first candidate that selects key j; a key of
// level `levels` is selected by none.
struct LevelFamily {
  const uint8_t* level = nullptr;   // [keys_end]
  int levels = 0;                   // number of candidates, at most 254
  const int32_t* counts = nullptr;  // [levels + 1] keys of each level; read when outputs are scored
  float* mass = nullptr;   // [levels, 64] out: row r's attention mass at that level; or null
  float* error = nullptr;  // [levels, 64] out when outputs are scored, else unused
};

struct ScoreBlock {
  AttentionHead head;
  KeyValueRows rows;  // the head's k and v as the bf16 numbers that they are; k null: f32 input
  int64_t block = 0;
  const float* lse = nullptr;   // [rows] of dense attention
  const float* rest = nullptr;  // [rows] mass that no key holds, as an attention sink's; null: none
  float* column_mass = nullptr;  // [keys_end] out: sum over the block's rows of p
  std::span<LevelFamily> families;
  // Output error ||(o - o~) W||^2 per row and candidate, of one family at least; left out when gram
  // is null.
  const float* gram = nullptr;  // [head_dim, head_dim] = W W^T, symmetric
  float* norm = nullptr;        // [64] out: ||o||^2
};

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // Whether this machine can run it; what says which instruction is missing.
  [[nodiscard]] virtual Status available() const = 0;
  // Whether it is worth choosing unasked where it is available.
  [[nodiscard]] virtual bool preferred() const { return true; }
  [[nodiscard]] virtual Status supports(const AttentionHead& head) const;
  // The backend whose arithmetic f32 input gets: itself, unless it is for bf16 only.
  [[nodiscard]] virtual const Backend& f32() const { return *this; }
  // Bytes of 64-byte aligned scratch that calls on such a head need, but for those that say so.
  [[nodiscard]] virtual size_t scratch_bytes(int head_dim) const = 0;

  // Rows of one block over its selected keys. keys: bitmap of keys_end(block) bits, null for all.
  // o: [rows, head_dim], rows o_stride apart; a row without any key gets o = 0, lse = -inf.
  // lse: [rows], may be null. Returns executed tiles: ceil(selected keys / 64).
  virtual int64_t attend(const AttentionHead& head, int64_t block, const uint64_t* keys, float* o,
                         int64_t o_stride, float* lse, void* scratch) const = 0;

  virtual void probabilities(const ProbabilityRows& rows, void* scratch) const = 0;

  // bf16 input. What a backend without bf16 instructions does, and the default of these four: K and
  // V are packed as f32 rows, once per KV head, and every block goes through attend().
  [[nodiscard]] virtual size_t packed_bytes(int head_dim, int64_t n_kv) const;
  // Writes one tile of 64 keys, tile < rows.tiles(); tiles may be packed by different threads.
  virtual void pack(const KeyValueRows& rows, int64_t tile, std::byte* packed) const;
  // Time of a tile of gathered keys over that of keys that lie together, in attend_packed.
  [[nodiscard]] virtual double gather_price() const { return 1; }
  // attend() for every row block of the group.
  virtual void attend_packed(const PackedGroup& group, void* scratch) const;
  // probabilities() of f32 queries over packed keys: rows.k is not read.
  virtual void packed_probabilities(const ProbabilityRows& rows, const std::byte* packed,
                                    int64_t n_kv, void* scratch) const;
  // Whether estimates of packed keys are best made as codes, by the two calls that follow. Such a
  // backend packs a key into two bytes a number, first all keys and then all values, and keys alone
  // where rows.v is null.
  [[nodiscard]] virtual bool has_codes() const { return false; }
  // packed_probabilities as codes, without a round trip of probabilities through memory. rows.p is
  // not written.
  virtual void packed_codes(const ProbabilityRows& rows, const std::byte* packed, int64_t n_kv,
                            const MassCodes& codes, void* scratch) const;
  // Codes of the sums a[j] + b[j] against a threshold; b may be null.
  virtual void codes_of(const float* a, const float* b, int64_t keys, float threshold,
                        uint8_t* code) const;
  // Scratch of these calls.
  [[nodiscard]] virtual size_t packed_scratch_bytes(int head_dim, int64_t n_kv) const;

  // Bit j of the result: e[j] > threshold, for j < count <= 64.
  [[nodiscard]] virtual uint64_t above(const float* e, int64_t count, float threshold) const;
  // How many of the codes are at least `threshold`; words [bitmap_words(keys)], if not null, says
  // which.
  virtual int64_t codes_from(const uint8_t* code, int64_t keys, uint8_t threshold,
                             uint64_t* words) const;

  // Exact mass (and output error) of every candidate of every family in one pass over a row block.
  virtual void score(const ScoreBlock& block, void* scratch) const = 0;
  // Scratch of it, O(n_kv), for families of at most so many levels.
  [[nodiscard]] virtual size_t score_scratch_bytes(int head_dim, int64_t n_kv,
                                                   int most_levels) const = 0;
};

// All backends of this build, best first; "reference" (double precision, slow) comes last.
[[nodiscard]] std::span<const Backend* const> all_backends();
// The named backend; with an empty name, MI_BACKEND's or else the first available and preferred.
[[nodiscard]] Result<const Backend*> choose_backend(std::string_view name = {});

}  // namespace mi::kernels
