// A whole file mapped read-only: weights are paged in when a layer is converted, never copied.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "kernels/status.h"

namespace mi::search {

using Bytes = std::span<const uint8_t>;

class MappedFile {
 public:
  [[nodiscard]] static Result<std::shared_ptr<const MappedFile>> open(
      const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] Bytes bytes() const { return bytes_; }
  // Part of bytes() is about to be read: pages are fetched while others are worked on.
  void will_need(Bytes part) const;
  // Part of bytes() is not needed for now: its pages no longer count as the program's memory.
  void release(Bytes part) const;

 private:
  MappedFile() = default;
  Bytes bytes_;
};

// A small text file (configuration, tokenizer, index) as a string.
[[nodiscard]] Result<std::string> read_text_file(const std::filesystem::path& path);

}  // namespace mi::search
