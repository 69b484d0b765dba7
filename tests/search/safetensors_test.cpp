// safetensors headers, honest and lying; shards.
#include "libsearch/model/safetensors.h"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "libsearch/model/weights.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

std::vector<uint8_t> with_header(std::string_view header, size_t data_bytes) {
  ByteWriter out;
  out.put<uint64_t>(header.size()).raw(header).raw(std::string(data_bytes, '\0'));
  return out.bytes();
}

Status parse(const std::vector<uint8_t>& bytes) {
  TensorTable table;
  return parse_safetensors(bytes, "f.safetensors", table);
}

TEST_CASE("tensors of a safetensors file are found where the header says") {
  const auto bytes = with_header(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},)"
      R"("a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}})",
      16);
  TensorTable table;
  REQUIRE(parse_safetensors(bytes, "f", table));
  REQUIRE(table.find("a") != nullptr);
  CHECK(table.find("a")->shape == std::vector<int64_t>{2, 2});
  CHECK(table.find("b")->data.data() - table.find("a")->data.data() == 8);
  CHECK(table.find("__metadata__") == nullptr);
}

TEST_CASE("a lying safetensors header is one error with its place") {
  const auto entry = [](std::string_view fields) {
    return with_header("{\"t\":{" + std::string(fields) + "}}", 16);
  };
  ByteWriter long_header;
  long_header.put<uint64_t>(1000).raw("{}");
  struct Lie {
    std::vector<uint8_t> file;
    Code code;
    std::string_view says;
  };
  const Lie lies[] = {
      {{}, Code::schema, "header length needs 8 bytes, the file has 0"},
      {long_header.bytes(), Code::schema, "header length: got 1000, expected at most 2"},
      {with_header("{\"a\":", 0), Code::schema, "not JSON at byte"},
      {with_header("[]", 0), Code::schema, "expected an object"},
      {with_header(R"({"a":{},"a":{}})", 0), Code::schema, "key \"a\" is there twice"},
      {with_header(std::string(100, '['), 0), Code::schema, "nested deeper than 64"},
      {with_header(R"({"t":1})", 0), Code::schema, "t: got 1, expected an object"},
      {entry(R"("shape":[4],"data_offsets":[0,16])"), Code::schema, "t: dtype: missing"},
      {entry(R"("dtype":"I64","shape":[2],"data_offsets":[0,16])"), Code::unsupported,
       "t: dtype: got I64, supported: F32, F16, BF16"},
      {entry(R"("dtype":"F32","data_offsets":[0,16])"), Code::schema, "t: shape: missing"},
      {entry(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"), Code::schema, "t: shape"},
      {entry(R"("dtype":"F32","shape":[4.0],"data_offsets":[0,16])"), Code::schema, "t: shape"},
      {entry(R"("dtype":"F32","shape":[0],"data_offsets":[0,0])"), Code::schema,
       "shape [0] is out of range"},
      {entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16])"),
       Code::schema, "is out of range"},
      {entry(R"("dtype":"F32","shape":[5],"data_offsets":[0,20])"), Code::schema,
       "got [0,20], expected [begin, end] within 16 bytes"},
      {entry(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"), Code::schema, "data_offsets"},
      {entry(R"("dtype":"F32","shape":[4],"data_offsets":[0])"), Code::schema, "data_offsets"},
      {entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])"), Code::schema,
       "got [0,16], expected 12 bytes for [3] of F32"},
      {with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                   R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                   16),
       Code::schema, "tensors a and b overlap"},
  };
  for (const Lie& lie : lies) {
    INFO(lie.says);
    const Status status = parse(lie.file);
    CHECK(status.code == lie.code);
    CHECK_THAT(status.what, Catch::StartsWith("f.safetensors: "));
    CHECK_THAT(status.what, Catch::Contains(std::string(lie.says)));
  }
}

TEST_CASE("a safetensors file cut anywhere is refused") {
  const std::string whole = read_file(kTestData / "tiny-llama" / "model.safetensors");
  for (size_t size = 0; size < whole.size(); size += size < 3000 ? 61 : 9001) {
    INFO(size);
    const std::vector<uint8_t> cut(whole.begin(),
                                   whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(parse(cut).code == Code::schema);
  }
}

TEST_CASE("shards must be there and hold what the index says") {
  const TemporaryFolder folder;
  CHECK(open_safetensors(folder.path()).error().code == Code::io);
  const auto copy = [&](const std::string& name) {
    std::filesystem::copy(kTestData / "tiny-llama-shards" / name, folder.path() / name);
  };
  const std::string index = "model.safetensors.index.json";
  copy(index);
  auto missing = open_safetensors(folder.path());
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Code::io);
  CHECK_THAT(missing.error().what, Catch::Contains("model-00001-of-00002.safetensors: No such"));
  copy("model-00001-of-00002.safetensors");
  copy("model-00002-of-00002.safetensors");
  const auto whole = open_safetensors(folder.path());
  REQUIRE(whole);
  CHECK(whole->tensors().size() == 21);

  auto json = nlohmann::json::parse(read_file(folder.path() / index));
  json["weight_map"]["lm_head.weight"] = "model-00002-of-00002.safetensors";
  write_file(folder.path() / index, json.dump());
  CHECK_THAT(open_safetensors(folder.path()).error().what,
             Catch::Contains("model-00002-of-00002.safetensors holds lm_head.weight, it does not"));
  json["weight_map"]["lm_head.weight"] = "../elsewhere.safetensors";
  write_file(folder.path() / index, json.dump());
  CHECK_THAT(open_safetensors(folder.path()).error().what,
             Catch::Contains("expected a file name in the same directory"));
}

}  // namespace
}  // namespace mi::search
