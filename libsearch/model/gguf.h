// GGUF files (versions 2 and 3, little endian): metadata and tensor table. Everything is checked
// against the file's size before any memory is taken for it, so a lying header costs nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/mapped_file.h"
#include "libsearch/model/weights.h"

namespace mi::search {

// Numbers as the file format counts them.
enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

// Integers and floats of an array are widened; strings point into the file.
struct GgufArray {
  GgufType type = GgufType::u8;
  std::vector<int64_t> integers;  // all integer types and booleans (u64 past 2^63 is refused)
  std::vector<double> floats;
  std::vector<std::string_view> strings;
};
using GgufValue = std::variant<int64_t, double, bool, std::string_view, GgufArray>;

class GgufFile {
 public:
  // `bytes` must outlive the result, which points into it.
  [[nodiscard]] static Result<GgufFile> parse(Bytes bytes, std::string file_name);

  [[nodiscard]] const std::string& file_name() const { return file_name_; }
  [[nodiscard]] const TensorTable& tensors() const { return tensors_; }
  [[nodiscard]] TensorTable take_tensors() && { return std::move(tensors_); }
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }

  // Values by key; with a fallback the key may be absent, a wrong type is always an error.
  [[nodiscard]] Result<int64_t> integer(std::string_view key,
                                        std::optional<int64_t> fallback = {}) const;
  [[nodiscard]] Result<double> number(std::string_view key,
                                      std::optional<double> fallback = {}) const;
  [[nodiscard]] Result<bool> boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  [[nodiscard]] Result<std::string_view> string(
      std::string_view key, std::optional<std::string_view> fallback = {}) const;
  [[nodiscard]] Result<std::span<const std::string_view>> strings(std::string_view key) const;
  [[nodiscard]] Result<std::span<const int64_t>> integers(std::string_view key) const;
  [[nodiscard]] Result<std::span<const double>> numbers(std::string_view key) const;

 private:
  [[nodiscard]] const GgufValue* find(std::string_view key) const;
  template <class T>
  [[nodiscard]] Result<T> get(std::string_view key, std::optional<T> fallback,
                              std::string_view expected) const;

  std::string file_name_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  TensorTable tensors_;
};

}  // namespace mi::search
