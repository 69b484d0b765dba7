// The header of a GGUF file: counts, metadata, tensor table.
#include "libsearch/model/gguf.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "libsearch/model/byte_cursor.h"

namespace mi::search {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF fields are read as they lie");

constexpr uint64_t kMaxNameBytes = 1U << 16U;  // keys and tensor names; the format says 65535, 64
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxAlignment = 1U << 20U;
// The least that one entry can take, to judge a count by the bytes that are left.
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 8 + 4 + 8;

// Bytes of one array element; strings need at least their length field.
uint64_t element_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
    case GgufType::string:
      return 8;
    case GgufType::array:
      break;
  }
  return 0;
}

template <class T>
Status read_integer(ByteCursor& in, std::string_view key, GgufValue& out) {
  MI_TRY(const T value, in.read<T>(key));
  if (!std::in_range<int64_t>(value)) {
    return in.error(Code::schema, fmt::format("{}: got {}, past 2^63", key, value));
  }
  out = static_cast<int64_t>(value);
  return {};
}

Status read_scalar(ByteCursor& in, GgufType type, std::string_view key, GgufValue& out) {
  switch (type) {
    case GgufType::u8:
      return read_integer<uint8_t>(in, key, out);
    case GgufType::i8:
      return read_integer<int8_t>(in, key, out);
    case GgufType::u16:
      return read_integer<uint16_t>(in, key, out);
    case GgufType::i16:
      return read_integer<int16_t>(in, key, out);
    case GgufType::u32:
      return read_integer<uint32_t>(in, key, out);
    case GgufType::i32:
      return read_integer<int32_t>(in, key, out);
    case GgufType::u64:
      return read_integer<uint64_t>(in, key, out);
    case GgufType::i64:
      return read_integer<int64_t>(in, key, out);
    case GgufType::f32: {
      MI_TRY(const float value, in.read<float>(key));
      out = static_cast<double>(value);
      return {};
    }
    case GgufType::f64: {
      MI_TRY(out, in.read<double>(key));
      return {};
    }
    case GgufType::boolean: {
      MI_TRY(const uint8_t value, in.read<uint8_t>(key));
      if (value > 1) {
        return in.error(Code::schema, fmt::format("{}: got {}, expected 0 or 1", key, value));
      }
      out = value == 1;
      return {};
    }
    case GgufType::string: {
      MI_TRY(out, in.string(key, UINT64_MAX));
      return {};
    }
    case GgufType::array:
      break;
  }
  return in.error(Code::unsupported, fmt::format("{}: arrays of arrays are not supported", key));
}

Result<GgufType> read_type(ByteCursor& in, std::string_view key) {
  MI_TRY(const uint32_t type, in.read<uint32_t>(key));
  if (type > static_cast<uint32_t>(GgufType::f64)) {
    return in.error(Code::schema, fmt::format("type of {}: got {}, expected 0 to 12", key, type));
  }
  return static_cast<GgufType>(type);
}

Status read_array(ByteCursor& in, std::string_view key, GgufArray& array) {
  MI_TRY(array.type, read_type(in, key));
  MI_TRY(const uint64_t count, in.read<uint64_t>(key));
  const uint64_t bytes = element_bytes(array.type);
  if (bytes != 0 && count > in.left() / bytes) {
    return in.error(Code::schema, fmt::format("length of array {}: got {}, {} bytes are left", key,
                                              count, in.left()));
  }
  GgufValue value;
  for (uint64_t i = 0; i < count; ++i) {
    MI_CHECK(read_scalar(in, array.type, key, value));
    if (const auto* text = std::get_if<std::string_view>(&value)) array.strings.push_back(*text);
    if (const auto* number = std::get_if<double>(&value)) array.floats.push_back(*number);
    if (const auto* integer = std::get_if<int64_t>(&value)) array.integers.push_back(*integer);
    if (const auto* flag = std::get_if<bool>(&value)) array.integers.push_back(*flag ? 1 : 0);
  }
  return {};
}

struct Header {
  uint64_t tensors = 0;
  uint64_t keys = 0;
};

Result<Header> read_header(ByteCursor& in) {
  MI_TRY(const uint32_t magic, in.read<uint32_t>("magic"));
  if (magic != 0x46554747U) {
    return in.error(Code::schema, fmt::format("not a GGUF file: magic 0x{:08x}, expected "
                                              "0x46554747 (\"GGUF\")",
                                              magic));
  }
  MI_TRY(const uint32_t version, in.read<uint32_t>("version"));
  if (version != 2 && version != 3) {
    const bool swapped = version == 0x02000000U || version == 0x03000000U;
    return in.error(Code::unsupported, fmt::format("version: got {}{}, supported: 2 and 3", version,
                                                   swapped ? " (a big-endian file)" : ""));
  }
  Header header;
  MI_TRY(header.tensors, in.read<uint64_t>("tensor count"));
  MI_TRY(header.keys, in.read<uint64_t>("metadata count"));
  if (header.keys > in.left() / kMinKeyValueBytes) {
    return in.error(Code::schema, fmt::format("metadata count: got {}, {} bytes are left",
                                              header.keys, in.left()));
  }
  if (header.tensors > in.left() / kMinTensorInfoBytes) {
    return in.error(Code::schema, fmt::format("tensor count: got {}, {} bytes are left",
                                              header.tensors, in.left()));
  }
  return header;
}

std::optional<WeightType> weight_type(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return WeightType::f32;
    case 1:
      return WeightType::f16;
    case 2:
      return WeightType::q4_0;
    case 3:
      return WeightType::q4_1;
    case 6:
      return WeightType::q5_0;
    case 7:
      return WeightType::q5_1;
    case 8:
      return WeightType::q8_0;
    case 12:
      return WeightType::q4_k;
    case 13:
      return WeightType::q5_k;
    case 14:
      return WeightType::q6_k;
    case 30:
      return WeightType::bf16;
    default:
      return std::nullopt;
  }
}

struct TensorPlace {
  WeightTensor tensor;
  uint64_t offset = 0;  // in the data section
  uint64_t bytes = 0;
};

Result<TensorPlace> read_tensor_info(ByteCursor& in) {
  TensorPlace place;
  MI_TRY(const std::string_view name, in.string("tensor name", kMaxNameBytes));
  place.tensor.name = std::string(name);
  MI_TRY(const uint32_t dimensions, in.read<uint32_t>("number of dimensions"));
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    return in.error(Code::schema, fmt::format("tensor {}: got {} dimensions, expected 1 to {}",
                                              name, dimensions, kMaxDimensions));
  }
  for (uint32_t i = 0; i < dimensions; ++i) {
    MI_TRY(const int64_t extent, in.read<int64_t>("dimension"));
    place.tensor.shape.insert(place.tensor.shape.begin(),
                              extent);  // the file has them innermost first
  }
  MI_TRY(const uint32_t type, in.read<uint32_t>("tensor type"));
  const auto known = weight_type(type);
  if (!known) {
    return in.error(Code::unsupported, fmt::format("tensor {}: ggml type {}, supported: {}", name,
                                                   type, kWeightTypes));
  }
  place.tensor.type = *known;
  const auto bytes = tensor_bytes(*known, place.tensor.shape);
  if (!bytes) {
    return in.error(Code::schema, fmt::format("tensor {}: {}", name, bytes.error().what));
  }
  place.bytes = static_cast<uint64_t>(*bytes);
  MI_TRY(place.offset, in.read<uint64_t>("tensor offset"));
  return place;
}

// Offsets aligned, inside the data section, no two tensors on the same bytes.
Status check_places(const ByteCursor& in, std::vector<TensorPlace>& places, uint64_t section_bytes,
                    uint64_t alignment) {
  for (const TensorPlace& place : places) {
    if (place.offset % alignment != 0) {
      return in.error(Code::schema, fmt::format("tensor {}: offset {} is no multiple of {}",
                                                place.tensor.name, place.offset, alignment));
    }
    if (place.offset > section_bytes || place.bytes > section_bytes - place.offset) {
      return in.error(Code::schema,
                      fmt::format("tensor {}: {} bytes at offset {} of the data, which has {}",
                                  place.tensor.name, place.bytes, place.offset, section_bytes));
    }
  }
  std::vector<const TensorPlace*> sorted;
  for (const TensorPlace& place : places) sorted.push_back(&place);
  std::sort(sorted.begin(), sorted.end(),
            [](const TensorPlace* a, const TensorPlace* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->offset + sorted[i - 1]->bytes > sorted[i]->offset) {
      return in.error(Code::schema,
                      fmt::format("tensors {} and {} overlap", sorted[i - 1]->tensor.name,
                                  sorted[i]->tensor.name));
    }
  }
  return {};
}

}  // namespace

Result<GgufFile> GgufFile::parse(Bytes bytes, std::string file_name) {
  GgufFile file;
  file.file_name_ = std::move(file_name);
  ByteCursor in(bytes, file.file_name_);
  MI_TRY(const Header header, read_header(in));
  for (uint64_t i = 0; i < header.keys; ++i) {
    MI_TRY(const std::string_view key, in.string("metadata key", kMaxNameBytes));
    MI_TRY(const GgufType type, read_type(in, key));
    GgufValue value;
    if (type == GgufType::array) {
      MI_CHECK(read_array(in, key, value.emplace<GgufArray>()));
    } else {
      MI_CHECK(read_scalar(in, type, key, value));
    }
    if (!file.metadata_.try_emplace(std::string(key), std::move(value)).second) {
      return in.error(Code::schema, fmt::format("metadata key {} is there twice", key));
    }
  }
  std::vector<TensorPlace> places;
  for (uint64_t i = 0; i < header.tensors; ++i) {
    MI_TRY(TensorPlace place, read_tensor_info(in));
    places.push_back(std::move(place));
  }
  MI_TRY(const int64_t alignment, file.integer("general.alignment", 32));
  if (alignment < 1 || alignment > static_cast<int64_t>(kMaxAlignment) ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return in.error(Code::schema, fmt::format("general.alignment: got {}, expected a power of two "
                                              "up to {}",
                                              alignment, kMaxAlignment));
  }
  const auto step = static_cast<uint64_t>(alignment);
  const uint64_t start = std::min<uint64_t>((in.position() + step - 1) / step * step, bytes.size());
  MI_CHECK(check_places(in, places, bytes.size() - start, step));
  for (TensorPlace& place : places) {
    place.tensor.file = file.file_name_;
    place.tensor.data = bytes.subspan(start + place.offset, place.bytes);
    MI_CHECK(file.tensors_.add(std::move(place.tensor)));
  }
  return file;
}

}  // namespace mi::search
