// GGUF headers, honest and lying, and the conversion of every weight type.
#include "libsearch/model/gguf.h"

#include <catch2/catch.hpp>

#include <functional>

#include "tests/h5_file.h"
#include "tests/search/model_support.h"

namespace mi::search {
namespace {

constexpr uint32_t kMagic = 0x46554747;

ByteWriter header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  ByteWriter out;
  out.put(kMagic).put(version).put(tensors).put(keys);
  return out;
}

// One F32 tensor [2, 4] named "t" at the given offset and with the given first dimension.
ByteWriter one_tensor(int64_t columns = 4, uint32_t type = 0, uint64_t offset = 0,
                      uint32_t dimensions = 2) {
  ByteWriter out = header(1, 0);
  out.text("t").put(dimensions).put(columns).put<int64_t>(2).put(type).put(offset);
  out.pad(32);
  for (int i = 0; i < 8; ++i) out.put(static_cast<float>(i));
  return out;
}

TEST_CASE("every metadata type of a GGUF file is read") {
  ByteWriter out = header(0, 12, 2);
  out.text("u8").put<uint32_t>(0).put<uint8_t>(200);
  out.text("i8").put<uint32_t>(1).put<int8_t>(-5);
  out.text("u16").put<uint32_t>(2).put<uint16_t>(60000);
  out.text("i16").put<uint32_t>(3).put<int16_t>(-300);
  out.text("i32").put<uint32_t>(5).put<int32_t>(-70000);
  out.text("f32").put<uint32_t>(6).put(0.5F);
  out.text("yes").put<uint32_t>(7).put<uint8_t>(1);
  out.text("words").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2).text("a").text("");
  out.text("u64").put<uint32_t>(10).put<uint64_t>(uint64_t{1} << 40U);
  out.text("i64").put<uint32_t>(11).put<int64_t>(-1);
  out.text("f64").put<uint32_t>(12).put(0.25);
  out.text("shorts").put<uint32_t>(9).put<uint32_t>(3).put<uint64_t>(2).put<int16_t>(1);
  out.put<int16_t>(-1);
  const auto file = GgufFile::parse(out.bytes(), "f.gguf");
  REQUIRE(file);
  CHECK(file->integer("u8") == 200);
  CHECK(file->integer("i8") == -5);
  CHECK(file->integer("u16") == 60000);
  CHECK(file->integer("i16") == -300);
  CHECK(file->integer("i32") == -70000);
  CHECK(file->integer("u64") == int64_t{1} << 40U);
  CHECK(file->integer("i64") == -1);
  CHECK(file->number("f32") == 0.5);
  CHECK(file->number("f64") == 0.25);
  CHECK(file->boolean("yes") == true);
  REQUIRE(file->strings("words"));
  CHECK(std::vector<std::string_view>(file->strings("words")->begin(),
                                      file->strings("words")->end()) ==
        std::vector<std::string_view>{"a", ""});
  REQUIRE(file->integers("shorts"));
  CHECK((*file->integers("shorts"))[1] == -1);
  CHECK(file->integer("absent", 7) == 7);
  CHECK(file->integer("absent").error().what ==
        "f.gguf: metadata absent: missing, expected an integer");
  CHECK(file->integer("f32", 7).error().what ==
        "f.gguf: metadata f32: wrong type, expected an integer");
}

TEST_CASE("a GGUF tensor is found where the header says") {
  const ByteWriter out = one_tensor();
  const auto file = GgufFile::parse(out.bytes(), "f.gguf");
  REQUIRE(file);
  const WeightTensor* tensor = file->tensors().find("t");
  REQUIRE(tensor != nullptr);
  CHECK(tensor->shape == std::vector<int64_t>{2, 4});
  float row[4];
  REQUIRE(convert_rows(*tensor, 1, 1, row));
  CHECK(row[3] == 7);
}

TEST_CASE("a lying GGUF header is one error with its place") {
  struct Lie {
    std::string_view name;
    ByteWriter file;
    Code code;
    std::string_view says;
  };
  const auto with_key = [](uint32_t type) {
    ByteWriter out = header(0, 1);
    out.text("k").put(type);
    return out;
  };
  ByteWriter wrong_magic;
  wrong_magic.raw("GGML").put<uint32_t>(3).put<uint64_t>(0).put<uint64_t>(0);
  ByteWriter long_key = header(0, 1);
  long_key.put<uint64_t>(uint64_t{1} << 60U).raw("0123456789");
  ByteWriter bad_type = with_key(13);
  bad_type.raw("0123456789");
  ByteWriter bad_bool = with_key(7);
  bad_bool.raw(
      "\x02"
      "23456789");
  ByteWriter huge_array = with_key(9);
  huge_array.put<uint32_t>(4).put(uint64_t{1} << 61U).raw("0123456789");
  ByteWriter nested = with_key(9);
  nested.put<uint32_t>(9).put<uint64_t>(1).raw("0123456789ab");
  ByteWriter huge_string = with_key(8);
  huge_string.put<uint64_t>(11).raw("0123456789");
  ByteWriter past_i64 = with_key(10);
  past_i64.put(UINT64_MAX).raw("0123456789");
  ByteWriter twice = header(0, 2);
  for (int i = 0; i < 2; ++i) twice.text("k").put<uint32_t>(0).put<uint8_t>(1).raw("");
  ByteWriter alignment = header(0, 1);
  alignment.text("general.alignment").put<uint32_t>(4).put<uint32_t>(24);
  ByteWriter same_name = header(2, 0);
  ByteWriter overlap = header(2, 0);
  for (uint64_t i = 0; i < 2; ++i) {
    same_name.text("t").put<uint32_t>(1).put<int64_t>(8).put<uint32_t>(0).put(i * 32);
    overlap.text(i == 0 ? "a" : "b").put<uint32_t>(1).put<int64_t>(9).put<uint32_t>(0).put(i * 32);
  }
  same_name.pad(32).raw(std::string(64, 'x'));
  overlap.pad(32).raw(std::string(96, 'x'));
  const Lie lies[] = {
      {"empty", {}, Code::schema, "f.gguf: at byte 0: magic: needs 4 bytes"},
      {"magic", wrong_magic, Code::schema, "not a GGUF file"},
      {"version 1", header(0, 0, 1), Code::unsupported, "version: got 1, supported: 2 and 3"},
      {"big endian", header(0, 0, 0x03000000), Code::unsupported, "a big-endian file"},
      {"key count", header(0, uint64_t{1} << 62U), Code::schema, "metadata count: got 46116"},
      {"tensor count", header(uint64_t{1} << 62U, 0), Code::schema, "tensor count: got 46116"},
      {"key length", long_key, Code::schema, "at byte 24: length of metadata key: got 11529"},
      {"value type", bad_type, Code::schema, "type of k: got 13"},
      {"boolean", bad_bool, Code::schema, "k: got 2, expected 0 or 1"},
      {"array length", huge_array, Code::schema, "length of array k: got 23058"},
      {"nested array", nested, Code::unsupported, "arrays of arrays"},
      {"string length", huge_string, Code::schema, "length of k: got 11, expected at most 10"},
      {"integer range", past_i64, Code::schema, "past 2^63"},
      {"key twice", twice, Code::schema, "metadata key k is there twice"},
      {"alignment", alignment, Code::schema, "general.alignment: got 24"},
      {"zero extent", one_tensor(0), Code::schema, "shape [2, 0] is out of range"},
      {"negative extent", one_tensor(-4), Code::schema, "shape [2, -4] is out of range"},
      {"huge extent", one_tensor(INT64_MAX / 2), Code::schema, "is out of range"},
      {"past the end", one_tensor(5), Code::schema, "tensor t: 40 bytes at offset 0 of the data"},
      {"offset past the end", one_tensor(4, 0, 1 << 20), Code::schema, "at offset 1048576"},
      {"offset near 2^64", one_tensor(4, 0, UINT64_MAX - 31), Code::schema, "at offset 18446"},
      {"odd offset", one_tensor(4, 0, 4), Code::schema, "offset 4 is no multiple of 32"},
      {"no dimensions", one_tensor(4, 0, 0, 0), Code::schema, "got 0 dimensions"},
      {"many dimensions", one_tensor(4, 0, 0, 5), Code::schema, "got 5 dimensions"},
      {"unknown type", one_tensor(4, 15), Code::unsupported, "ggml type 15, supported: F32"},
      {"broken block", one_tensor(4, 8), Code::schema, "rows of 4 elements are not whole Q8_0"},
      {"name twice", same_name, Code::schema, "tensor t is there twice"},
      {"overlap", overlap, Code::schema, "tensors a and b overlap"},
  };
  for (const Lie& lie : lies) {
    INFO(lie.name);
    const auto file = GgufFile::parse(lie.file.bytes(), "f.gguf");
    REQUIRE_FALSE(file);
    CHECK(file.error().code == lie.code);
    CHECK_THAT(file.error().what, Catch::StartsWith("f.gguf: "));
    CHECK_THAT(file.error().what, Catch::Contains(std::string(lie.says)));
  }
}

TEST_CASE("a GGUF file cut anywhere is refused") {
  const std::string whole = read_file(kTestData / "tiny-llama.gguf");
  for (size_t size = 0; size < whole.size(); size += size < 20000 ? 97 : 5003) {
    const std::vector<uint8_t> cut(whole.begin(),
                                   whole.begin() + static_cast<std::ptrdiff_t>(size));
    const auto file = GgufFile::parse(cut, "cut");
    INFO(size);
    REQUIRE_FALSE(file);
    CHECK(file.error().code == Code::schema);
  }
}

TEST_CASE("every weight type is converted as gguf's own tools do") {
  const std::string bytes = read_file(kTestData / "weight_types.gguf");
  const auto file = GgufFile::parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                    "weight_types.gguf");
  REQUIRE(file);
  const test::H5File want((kTestData / "weight_types.h5").string());
  for (const std::string name :
       {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}) {
    const WeightTensor* tensor = file->tensors().find(name);
    REQUIRE(tensor != nullptr);
    CHECK(to_string(tensor->type) == name);
    INFO(name);
    std::vector<float> got(static_cast<size_t>(3 * tensor->columns()));
    REQUIRE(convert_rows(*tensor, 0, 3, got.data()));
    // One product and one sum: a rounding each, or none where the other side fuses them. Those of
    // the _K types are of numbers up to 1000.
    const double rounding = name.back() == 'K' ? 1e-4 : 1e-6;
    CHECK(test::worst_difference(got, want.floats(name), {rounding, 1.2e-7}) == "");
  }
}

TEST_CASE("a weight that is NaN or infinite is named with its row") {
  ByteWriter out = header(1, 0);
  out.text("t").put<uint32_t>(2).put<int64_t>(2).put<int64_t>(2).put<uint32_t>(1).put<uint64_t>(0);
  out.pad(32).put<uint16_t>(0x3c00).put<uint16_t>(0x7bff);  // 1, 65504
  out.put<uint16_t>(0x0001).put<uint16_t>(0xfc00);          // 2^-24, -infinity
  const auto file = GgufFile::parse(out.bytes(), "f.gguf");
  REQUIRE(file);
  float row[2];
  REQUIRE(convert_rows(*file->tensors().find("t"), 0, 1, row));
  CHECK(row[0] == 1);
  CHECK(row[1] == 65504);
  const Status status = convert_rows(*file->tensors().find("t"), 1, 1, row);
  CHECK(row[0] == 0x1p-24F);
  CHECK(status.code == Code::schema);
  CHECK(status.what == "f.gguf: tensor t holds NaN or infinity in row 1");
}

}  // namespace
}  // namespace mi::search
