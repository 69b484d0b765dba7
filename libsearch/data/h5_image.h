// HDF5 files: our own as bytes in memory, so that they are written whole and checked before HDF5
// sees them; others' from disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mi::search {

// All members throw std::runtime_error that says what failed, and std::bad_alloc.

class H5Writer {
 public:
  H5Writer();
  ~H5Writer();
  H5Writer(const H5Writer&) = delete;
  H5Writer& operator=(const H5Writer&) = delete;
  void attribute(const std::string& name, int64_t value);
  void attribute(const std::string& name, std::string_view text);
  void group(const std::string& path);
  void text(const std::string& path, std::string_view text);  // UTF-8
  // f32, in chunks of `chunk` along each axis, bytes shuffled and deflated. Nothing in an axis is
  // allowed.
  void floats(const std::string& path, std::span<const uint64_t> extent,
              std::span<const uint64_t> chunk, std::span<const float> values);
  [[nodiscard]] std::string bytes();

 private:
  int64_t file_;
};

class H5Reader {
 public:
  // `bytes` must outlive the reader.
  explicit H5Reader(std::string_view bytes);
  struct OnDisk {
    const std::filesystem::path& path;
  };
  explicit H5Reader(OnDisk file);
  ~H5Reader();
  H5Reader(const H5Reader&) = delete;
  H5Reader& operator=(const H5Reader&) = delete;
  [[nodiscard]] int64_t integer_attribute(const std::string& name) const;
  [[nodiscard]] double number_attribute(const std::string& name) const;  // of either kind
  [[nodiscard]] std::string text_attribute(const std::string& name) const;
  [[nodiscard]] bool has_attribute(const std::string& name) const;
  // Whether there is a link of this name; of "a/b" only if there is an "a".
  [[nodiscard]] bool has(const std::string& path) const;
  [[nodiscard]] std::string text(const std::string& path) const;
  [[nodiscard]] std::vector<uint64_t> extent(const std::string& path) const;
  // Whether a data set holds 16-bit integers: bf16, which HDF5 has no type for.
  [[nodiscard]] bool is_bf16(const std::string& path) const;
  // The data set must have this extent.
  [[nodiscard]] std::vector<float> floats(const std::string& path,
                                          std::span<const uint64_t> extent) const;
  [[nodiscard]] std::vector<uint16_t> halves(const std::string& path,
                                             std::span<const uint64_t> extent) const;

 private:
  int64_t file_;
};

}  // namespace mi::search
