// Memory as the emulated device sees it, with what a real one does not tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mi::test::cuda {

// What was wrong, by kind: how often, and the first place.
class Faults {
 public:
  void add(const std::string& kind, const std::string& where);
  [[nodiscard]] bool empty() const { return found_.empty(); }
  [[nodiscard]] std::string text() const;

 private:
  struct Found {
    int64_t times = 0;
    std::string first;
  };
  std::map<std::string, Found> found_;
};

// The ranges of host memory that stand for device memory; all else is out of bounds.
class GlobalMemory {
 public:
  void add(const void* data, size_t bytes, bool writable);
  template <class T>
  void add(const std::vector<T>& read_only) {
    add(read_only.data(), read_only.size() * sizeof(T), false);
  }
  [[nodiscard]] bool allows(const void* data, size_t bytes, bool write) const;

 private:
  struct Range {
    uintptr_t begin, end;
    bool writable;
  };
  std::vector<Range> ranges_;
};

// Who accesses shared memory, and when: threads of a warp are ordered by the warp's barriers, all
// others by the block's.
struct Access {
  int thread = 0;
  int64_t block_epoch = 0;  // barriers of the block so far
  int64_t warp_epoch = 0;   // barriers of the thread's warp so far
  [[nodiscard]] int warp() const { return thread / 32; }
};

// Shared memory of a block in words of 4 bytes, each of which remembers its last accesses. Faults:
// out of bounds, misaligned, unwritten, in flight (a copy of cp.async not yet waited for), and
// race: two threads at one word, at least one writing, without a barrier between them.
class SharedMemory {
 public:
  // Not 0, so that an address made without the base is out of bounds.
  static constexpr uint32_t kBase = 1024;

  SharedMemory(uint32_t bytes, Faults& faults);
  [[nodiscard]] uint32_t base() const { return kBase; }

  void read(const Access& by, uint32_t address, void* to, uint32_t bytes);
  void write(const Access& by, uint32_t address, const void* from, uint32_t bytes);
  // Atomically, a word of 4 bytes: no race with other adds.
  void add(const Access& by, uint32_t address, uint32_t value);
  // 16 bytes that may change from now on, and have at the latest on delivery.
  void begin_copy(const Access& by, uint32_t address);
  void end_copy(const Access& by, uint32_t address, const void* from);

 private:
  enum class Content { kNone, kInFlight, kWritten };
  struct Word {
    Content content = Content::kNone;
    Access written;
    bool is_read = false;
    bool by_several = false;  // threads of the warp that read last
    bool by_other_warps = false;
    Access read;
    bool is_added_to = false;
    bool by_adders = false;  // several threads added between the barriers of the last add
    Access added;
  };
  [[nodiscard]] bool valid(uint32_t address, uint32_t bytes);
  // What any access of a written word must be ordered with: the last write and, unless it adds, the
  // last adds.
  void check_order(const Access& by, const Word& word, const char* access, uint32_t address,
                   bool adds);
  void check_write(const Access& by, const Word& word, uint32_t address, bool adds);

  std::vector<unsigned char> bytes_;
  std::vector<Word> words_;
  Faults& faults_;
};

}  // namespace mi::test::cuda
