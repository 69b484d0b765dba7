// Named weight tensors inside mapped files, and their conversion to f32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/mapped_file.h"

namespace mi::search {

enum class WeightType { f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k };
[[nodiscard]] std::string_view to_string(WeightType type);  // "F32", ..., as files name them
inline constexpr std::string_view kWeightTypes =
    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

// Elements that share a scale, and the bytes they take; 1 element for plain floats.
struct BlockLayout {
  int64_t elements = 1;
  int64_t bytes = 4;
};
[[nodiscard]] BlockLayout block_layout(WeightType type);

struct WeightTensor {
  std::string name;
  std::string file;  // for messages
  WeightType type = WeightType::f32;
  std::vector<int64_t> shape;  // outermost first; the last dimension is contiguous
  Bytes data;                  // exactly the tensor's bytes

  [[nodiscard]] int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  [[nodiscard]] int64_t rows() const;
};

// Bytes of a tensor, or why it cannot be: a dimension below 1, a product past 2^62, rows that are
// not whole blocks.
[[nodiscard]] Result<int64_t> tensor_bytes(WeightType type, std::span<const int64_t> shape);
[[nodiscard]] std::string shape_text(std::span<const int64_t> shape);  // "[576, 1536]"

// Rows [first, first + count) to f32, out [count, columns]. A NaN or infinity is Code::schema.
[[nodiscard]] Status convert_rows(const WeightTensor& tensor, int64_t first, int64_t count,
                                  float* out);

// All tensors of a model, by name; keeps their files mapped.
class TensorTable {
 public:
  void keep(std::shared_ptr<const MappedFile> file) { files_.push_back(std::move(file)); }
  [[nodiscard]] Status add(WeightTensor tensor);  // refuses a second tensor of the same name
  [[nodiscard]] const WeightTensor* find(std::string_view name) const;
  // The decoder's tensors of a multimodal checkpoint, under the names that they have in one of
  // text only.
  [[nodiscard]] Result<TensorTable> decoder_of_multimodal() const;
  // MappedFile's hints, for the file that the tensor's bytes are in.
  void will_need(const WeightTensor& tensor) const;
  void release(const WeightTensor& tensor) const;
  [[nodiscard]] std::span<const WeightTensor> tensors() const { return tensors_; }

 private:
  [[nodiscard]] const MappedFile* file_of(const WeightTensor& tensor) const;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<WeightTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace mi::search
