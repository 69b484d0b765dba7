#include "libsearch/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "libsearch/model/json_reader.h"

namespace mi::search {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 8;

std::optional<WeightType> weight_type(std::string_view dtype) {
  if (dtype == "F32") return WeightType::f32;
  if (dtype == "F16") return WeightType::f16;
  if (dtype == "BF16") return WeightType::bf16;
  return std::nullopt;
}

struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
};

Result<Range> read_range(const JsonObject& entry, uint64_t data_bytes) {
  MI_TRY(const Json* offsets, entry.array("data_offsets"));
  const std::string expected = fmt::format("[begin, end] within {} bytes of data", data_bytes);
  if (offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return entry.wrong("data_offsets", expected);
  }
  const Range range{(*offsets)[0].get<uint64_t>(), (*offsets)[1].get<uint64_t>()};
  if (range.begin > range.end || range.end > data_bytes) {
    return entry.wrong("data_offsets", expected);
  }
  return range;
}

Result<WeightTensor> read_entry(const JsonObject& entry, const std::string& name, Bytes data) {
  WeightTensor tensor;
  tensor.name = name;
  MI_TRY(const std::string dtype, entry.string("dtype"));
  const auto type = weight_type(dtype);
  if (!type) {
    return fail(Code::unsupported,
                fmt::format("{}: got {}, supported: F32, F16, BF16", entry.place("dtype"), dtype));
  }
  tensor.type = *type;
  MI_TRY(const Json* shape, entry.array("shape"));
  for (const Json& extent : *shape) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > INT64_MAX ||
        shape->size() > kMaxDimensions) {
      return entry.wrong("shape", fmt::format("at most {} sizes", kMaxDimensions));
    }
    tensor.shape.push_back(extent.get<int64_t>());
  }
  const auto bytes = tensor_bytes(*type, tensor.shape);
  if (!bytes) {
    return fail(Code::schema, fmt::format("{}: {}", entry.place("shape"), bytes.error().what));
  }
  MI_TRY(const Range range, read_range(entry, data.size()));
  if (range.end - range.begin != static_cast<uint64_t>(*bytes)) {
    return entry.wrong("data_offsets", fmt::format("{} bytes for {} of {}", *bytes,
                                                   shape_text(tensor.shape), dtype));
  }
  tensor.data = data.subspan(range.begin, range.end - range.begin);
  return tensor;
}

Status check_overlap(const std::vector<WeightTensor>& tensors, const std::string& file) {
  std::vector<const WeightTensor*> sorted;
  for (const WeightTensor& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const WeightTensor* a, const WeightTensor* b) {
    return a->data.data() < b->data.data();
  });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->data.data() + sorted[i - 1]->data.size() > sorted[i]->data.data()) {
      return fail(Code::schema, fmt::format("{}: tensors {} and {} overlap", file,
                                            sorted[i - 1]->name, sorted[i]->name));
    }
  }
  return {};
}

// Shard of every tensor, as the index says.
Result<std::map<std::string, std::string>> read_index(const std::filesystem::path& path) {
  MI_TRY(const std::string text, read_text_file(path));
  MI_TRY(const Json json, parse_json(text, path.string()));
  MI_TRY(const JsonObject index, JsonObject::of(json, path.string()));
  MI_TRY(const JsonObject map, index.object("weight_map"));
  std::map<std::string, std::string> shards;
  for (const auto& [name, shard] : map.json().items()) {
    const bool plain = shard.is_string() && !shard.get_ref<const std::string&>().empty() &&
                       shard.get_ref<const std::string&>().find('/') == std::string::npos;
    if (!plain) return map.wrong(name, "a file name in the same directory");
    shards[name] = shard.get<std::string>();
  }
  return shards;
}

}  // namespace

Status parse_safetensors(Bytes bytes, const std::string& file_name, TensorTable& table) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) {
    return fail(Code::schema, fmt::format("{}: at byte 0: header length needs 8 bytes, the file "
                                          "has {}",
                                          file_name, bytes.size()));
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const uint64_t left = bytes.size() - sizeof(header_bytes);
  if (header_bytes > left || header_bytes > kMaxHeaderBytes) {
    return fail(Code::schema,
                fmt::format("{}: at byte 0: header length: got {}, expected at most "
                            "{}",
                            file_name, header_bytes, std::min(left, kMaxHeaderBytes)));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + sizeof(header_bytes));
  MI_TRY(const Json json, parse_json({text, header_bytes}, file_name + ": header"));
  MI_TRY(const JsonObject header, JsonObject::of(json, file_name + ": header"));
  const Bytes data = bytes.subspan(sizeof(header_bytes) + header_bytes);
  std::vector<WeightTensor> tensors;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") continue;
    MI_TRY(const JsonObject entry, header.object(name));
    MI_TRY(WeightTensor tensor, read_entry(entry, name, data));
    tensor.file = file_name;
    tensors.push_back(std::move(tensor));
  }
  MI_CHECK(check_overlap(tensors, file_name));
  for (WeightTensor& tensor : tensors) MI_CHECK(table.add(std::move(tensor)));
  return {};
}

Result<TensorTable> open_safetensors(const std::filesystem::path& directory) {
  const std::filesystem::path single = directory / "model.safetensors";
  const std::filesystem::path index = directory / "model.safetensors.index.json";
  std::error_code ignored;
  TensorTable table;
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards = {"model.safetensors"};
  if (!std::filesystem::exists(single, ignored)) {
    if (!std::filesystem::exists(index, ignored)) {
      return fail(Code::io, fmt::format("{}: neither model.safetensors nor "
                                        "model.safetensors.index.json",
                                        directory.string()));
    }
    MI_TRY(shard_of, read_index(index));
    shards.clear();
    for (const auto& [name, shard] : shard_of) shards.insert(shard);
  }
  for (const std::string& shard : shards) {
    const std::filesystem::path path = directory / shard;
    MI_TRY(auto file, MappedFile::open(path));
    MI_CHECK(parse_safetensors(file->bytes(), path.string(), table));
    table.keep(std::move(file));
  }
  for (const auto& [name, shard] : shard_of) {
    const WeightTensor* tensor = table.find(name);
    if (tensor == nullptr || tensor->file != (directory / shard).string()) {
      return fail(Code::schema, fmt::format("{}: weight_map says that {} holds {}, it does not",
                                            index.string(), shard, name));
    }
  }
  return table;
}

}  // namespace mi::search
