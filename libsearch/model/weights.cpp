#include "libsearch/model/weights.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libsearch/model/block_formats.h"

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

// By WeightType.
struct Format {
  std::string_view name;
  BlockLayout layout;
  void (*convert)(const uint8_t* block, float* out);  // null: plain floats
};
constexpr std::array kFormats = {
    Format{"F32", {1, 4}, nullptr},           Format{"F16", {1, 2}, nullptr},
    Format{"BF16", {1, 2}, nullptr},          Format{"Q4_0", {32, 18}, convert_q4_0},
    Format{"Q4_1", {32, 20}, convert_q4_1},   Format{"Q5_0", {32, 22}, convert_q5_0},
    Format{"Q5_1", {32, 24}, convert_q5_1},   Format{"Q8_0", {32, 34}, convert_q8_0},
    Format{"Q4_K", {256, 144}, convert_q4_k}, Format{"Q5_K", {256, 176}, convert_q5_k},
    Format{"Q6_K", {256, 210}, convert_q6_k},
};
static_assert(kFormats.size() == static_cast<size_t>(WeightType::q6_k) + 1);

const Format& format_of(WeightType type) {
  return kFormats[static_cast<size_t>(type)];
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
    default:
      break;
  }
  const Format& format = format_of(type);
  for (int64_t i = 0; i < columns / format.layout.elements; ++i)
    format.convert(in + format.layout.bytes * i, out + format.layout.elements * i);
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
  return format_of(type).name;
}

BlockLayout block_layout(WeightType type) {
  return format_of(type).layout;
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

Result<TensorTable> TensorTable::decoder_of_multimodal() const {
  TensorTable decoder;
  decoder.files_ = files_;
  for (WeightTensor tensor : tensors_) {
    // Some versions of transformers write the model's own "model." before all of these.
    std::string_view name = tensor.name;
    const bool inside = name.starts_with("model.");
    if (inside) name.remove_prefix(6);
    if (name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.")) continue;
    constexpr std::string_view kDecoder = "language_model.";
    if (name.starts_with(kDecoder)) {
      name.remove_prefix(kDecoder.size());
      tensor.name = (inside ? "model." : "") + std::string(name);
    }
    MI_CHECK(decoder.add(std::move(tensor)));
  }
  return decoder;
}

const MappedFile* TensorTable::file_of(const WeightTensor& tensor) const {
  for (const auto& file : files_) {
    const Bytes bytes = file->bytes();
    if (!tensor.data.empty() && tensor.data.data() >= bytes.data() &&
        tensor.data.data() < bytes.data() + bytes.size())
      return file.get();
  }
  return nullptr;
}

void TensorTable::will_need(const WeightTensor& tensor) const {
  if (const MappedFile* file = file_of(tensor)) file->will_need(tensor.data);
}

void TensorTable::release(const WeightTensor& tensor) const {
  if (const MappedFile* file = file_of(tensor)) file->release(tensor.data);
}

}  // namespace mi::search
