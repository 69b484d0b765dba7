// The tensors of one layer call as a wave of its heads sees them: the same few operations whatever
// the elements are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/tensor_view.h"

namespace mi::runtime {

// A row block of a head of the wave on its way to attention.
struct BlockWork {
  int head = 0;
  int64_t block = 0;
  const uint64_t* keys = nullptr;  // bitmap of keys_end(block) bits, null for all
  int64_t tiles = 0;               // out: executed
};

class WaveInput {
 public:
  virtual ~WaveInput() = default;
  // What has to be done before anything else, in units that different threads may take.
  [[nodiscard]] virtual int64_t prepare_units() const = 0;
  virtual void prepare(int64_t unit) const = 0;
  // Head i of the wave for an estimate that reads query rows [begin, end); `each`: one by one, not
  // only their means. rows [end - begin, head_dim] is scratch.
  [[nodiscard]] virtual kernels::AttentionHead head(int i, int64_t begin, int64_t end, bool each,
                                                    float* rows) const = 0;
  // At most kMaxGroup row blocks over one KV head.
  virtual void attend(std::span<BlockWork> work, void* scratch) const = 0;
};

// Heads [first, first + count) of a call on elements T.
template <class T>
struct CallHeads {
  const kernels::Backend* backend = nullptr;
  TensorView<const T, 3> q, k, v;
  TensorView<T, 3> o;
  TensorView<float, 2> lse;  // or empty
  int first = 0;
  int count = 0;
  int heads_per_kv = 1;
  float scale = 0;
  float softcap = 0;

  [[nodiscard]] int first_kv() const { return first / heads_per_kv; }
  [[nodiscard]] int kv_heads() const { return (first + count - 1) / heads_per_kv - first_kv() + 1; }
  // The KV head of head i of the wave, counted from the wave's first.
  [[nodiscard]] int kv_of(int i) const { return (first + i) / heads_per_kv - first_kv(); }
  [[nodiscard]] float* lse_of(int i) const {
    return lse.data == nullptr ? nullptr : lse.data + (first + i) * lse.stride[0];
  }
};

class RowsInput final : public WaveInput {
 public:
  explicit RowsInput(const CallHeads<float>& call) : call_(call) {}
  [[nodiscard]] int64_t prepare_units() const override { return 0; }
  void prepare(int64_t /*unit*/) const override {}
  [[nodiscard]] kernels::AttentionHead head(int i, int64_t begin, int64_t end, bool each,
                                            float* rows) const override;
  void attend(std::span<BlockWork> work, void* scratch) const override;

 private:
  CallHeads<float> call_;
};

// bf16 or f16: K and V are packed (kernels/packed.h) once per KV head of the wave.
template <class T>
class PackedInput final : public WaveInput {
 public:
  // packed: Backend::packed_bytes, rounded up to `packed_bytes`, of each KV head; wide_keys
  // [kv_heads(), n_kv, head_dim] when an estimate reads keys that are packed otherwise, else null.
  PackedInput(const CallHeads<T>& call, std::byte* packed, size_t packed_bytes, float* wide_keys)
      : call_(call), packed_(packed), packed_bytes_(packed_bytes), wide_keys_(wide_keys) {}
  // One unit per KV head and tile of 64 keys.
  [[nodiscard]] int64_t prepare_units() const override {
    return call_.kv_heads() * key_values(0).tiles();
  }
  void prepare(int64_t unit) const override;
  [[nodiscard]] kernels::AttentionHead head(int i, int64_t begin, int64_t end, bool each,
                                            float* rows) const override;
  void attend(std::span<BlockWork> work, void* scratch) const override;

 private:
  // KV head g of the wave.
  [[nodiscard]] kernels::BasicKeyValueRows<T> key_values(int g) const;
  [[nodiscard]] kernels::BasicPackedGroup<T> group(int i) const;

  CallHeads<T> call_;
  std::byte* packed_;
  size_t packed_bytes_;
  float* wide_keys_;
};

// RowsInput for f32, PackedInput else.
template <class T>
using InputOf = std::conditional_t<std::is_same_v<T, float>, RowsInput, PackedInput<T>>;

}  // namespace mi::runtime
