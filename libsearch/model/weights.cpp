#include "libsearch/model/weights.h"

#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mi::search {
namespace {

template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16U);
}

// IEEE half to single. Halves are rebased by one float multiply (exponent 112 up), which also
// turns subnormals right; infinities and NaN (exponent 31) are patched.
float from_f16(uint16_t bits) {
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffU) << 13U;
  float value = std::bit_cast<float>(magnitude) * 0x1p112F;
  if ((bits & 0x7c00U) == 0x7c00U) value = std::bit_cast<float>(magnitude | 0x7f800000U);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) |
                              (static_cast<uint32_t>(bits & 0x8000U) << 16U));
}

// GGUF blocks of 32 elements. Q8_0: f16 scale, 32 int8. Q4_0: f16 scale, 16 bytes; byte i holds
// element i in its low and element i + 16 in its high half, each minus 8. Q4_1: f16 scale, f16
// minimum, the same 16 bytes without the 8.
void convert_q8_0(const uint8_t* block, float* out) {
  const float scale = from_f16(load<uint16_t>(block));
  for (int i = 0; i < 32; ++i) {
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

void convert_q4(const uint8_t* nibbles, float scale, float minimum, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(nibbles[i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(nibbles[i] >> 4) + minimum;
  }
}

void convert_row(WeightType type, const uint8_t* in, int64_t columns, float* out) {
  switch (type) {
    case WeightType::f32:
      std::memcpy(out, in, static_cast<size_t>(columns) * sizeof(float));
      return;
    case WeightType::f16:
      for (int64_t i = 0; i < columns; ++i) out[i] = from_f16(load<uint16_t>(in + 2 * i));
      return;
    case WeightType::bf16:
      for (int64_t i = 0; i < columns; ++i) out[i] = from_bf16(load<uint16_t>(in + 2 * i));
      return;
    case WeightType::q8_0:
      for (int64_t i = 0; i < columns / 32; ++i) convert_q8_0(in + 34 * i, out + 32 * i);
      return;
    case WeightType::q4_0:
      for (int64_t i = 0; i < columns / 32; ++i) {
        const float scale = from_f16(load<uint16_t>(in + 18 * i));
        convert_q4(in + 18 * i + 2, scale, -8 * scale, out + 32 * i);
      }
      return;
    case WeightType::q4_1:
      for (int64_t i = 0; i < columns / 32; ++i) {
        const uint8_t* block = in + 20 * i;
        convert_q4(block + 4, from_f16(load<uint16_t>(block)), from_f16(load<uint16_t>(block + 2)),
                   out + 32 * i);
      }
      return;
  }
}

// Exponent bits all ones: one integer pass that the compiler vectorises, with no early exit.
bool all_finite(const float* values, int64_t count) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t exponent = std::bit_cast<uint32_t>(values[i]) & 0x7f800000U;
    bad |= static_cast<uint32_t>(exponent == 0x7f800000U);
  }
  return bad == 0;
}

}  // namespace

std::string_view to_string(WeightType type) {
  switch (type) {
    case WeightType::f32:
      return "F32";
    case WeightType::f16:
      return "F16";
    case WeightType::bf16:
      return "BF16";
    case WeightType::q4_0:
      return "Q4_0";
    case WeightType::q4_1:
      return "Q4_1";
    case WeightType::q8_0:
      return "Q8_0";
  }
  return "?";
}

BlockLayout block_layout(WeightType type) {
  switch (type) {
    case WeightType::f32:
      return {1, 4};
    case WeightType::f16:
    case WeightType::bf16:
      return {1, 2};
    case WeightType::q4_0:
      return {32, 18};
    case WeightType::q4_1:
      return {32, 20};
    case WeightType::q8_0:
      return {32, 34};
  }
  return {};
}

int64_t WeightTensor::rows() const {
  int64_t product = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<int64_t> tensor_bytes(WeightType type, std::span<const int64_t> shape) {
  const BlockLayout layout = block_layout(type);
  int64_t elements = 1;
  for (const int64_t extent : shape) {
    if (extent < 1 || elements > (int64_t{1} << 56U) / extent) {
      return fail(Code::schema, fmt::format("shape {} is out of range", shape_text(shape)));
    }
    elements *= extent;
  }
  const int64_t columns = shape.empty() ? 1 : shape.back();
  if (columns % layout.elements != 0) {
    return fail(Code::schema, fmt::format("rows of {} elements are not whole {} blocks of {}",
                                          columns, to_string(type), layout.elements));
  }
  return elements / layout.elements * layout.bytes;
}

Status convert_rows(const WeightTensor& tensor, int64_t first, int64_t count, float* out) {
  const BlockLayout layout = block_layout(tensor.type);
  const int64_t columns = tensor.columns();
  const int64_t row_bytes = columns / layout.elements * layout.bytes;
  for (int64_t row = 0; row < count; ++row) {
    float* target = out + row * columns;
    convert_row(tensor.type, tensor.data.data() + (first + row) * row_bytes, columns, target);
    if (!all_finite(target, columns)) {
      return fail(Code::schema, fmt::format("{}: tensor {} holds NaN or infinity in row {}",
                                            tensor.file, tensor.name, first + row));
    }
  }
  return {};
}

Status TensorTable::add(WeightTensor tensor) {
  const auto [place, is_new] = index_.try_emplace(tensor.name, tensors_.size());
  if (!is_new) {
    return fail(Code::schema, fmt::format("{}: tensor {} is there twice (also in {})", tensor.file,
                                          tensor.name, tensors_[place->second].file));
  }
  tensors_.push_back(std::move(tensor));
  return {};
}

const WeightTensor* TensorTable::find(std::string_view name) const {
  const auto place = index_.find(std::string(name));
  return place == index_.end() ? nullptr : &tensors_[place->second];
}

}  // namespace mi::search
