#include "tests/cuda/emulator/memory.h"

#include <cstring>

namespace mi::test::cuda {
namespace {

// All ones are a NaN in bf16 and f16, in f32 and as two halves.
constexpr int kPoison = 0xff;

bool ordered(const Access& before, const Access& now) {
  if (before.block_epoch != now.block_epoch || before.thread == now.thread) return true;
  return before.warp() == now.warp() && before.warp_epoch != now.warp_epoch;
}

std::string place(uint32_t address, const Access& by) {
  return "shared byte " + std::to_string(address - SharedMemory::kBase) + ", thread " +
         std::to_string(by.thread) + ", after " + std::to_string(by.block_epoch) + " barriers";
}

}  // namespace

void Faults::add(const std::string& kind, const std::string& where) {
  Found& found = found_[kind];
  if (found.times++ == 0) found.first = where;
}

std::string Faults::text() const {
  std::string text;
  for (const auto& [kind, found] : found_)
    text += kind + ": " + std::to_string(found.times) + " times, first " + found.first + "\n";
  return text;
}

void GlobalMemory::add(const void* data, size_t bytes, bool writable) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  ranges_.push_back({begin, begin + bytes, writable});
}

bool GlobalMemory::allows(const void* data, size_t bytes, bool write) const {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (const Range& range : ranges_)
    if (begin >= range.begin && begin + bytes <= range.end) return !write || range.writable;
  return false;
}

SharedMemory::SharedMemory(uint32_t bytes, Faults& faults)
    : bytes_(bytes, kPoison), words_((bytes + 3) / 4), faults_(faults) {}

bool SharedMemory::valid(uint32_t address, uint32_t bytes) {
  if (address < kBase || address - kBase + bytes > bytes_.size()) {
    faults_.add("shared memory out of bounds", "address " + std::to_string(address));
    return false;
  }
  if (address % bytes != 0) {
    faults_.add("shared memory misaligned", "address " + std::to_string(address));
    return false;
  }
  return true;
}

void SharedMemory::read(const Access& by, uint32_t address, void* to, uint32_t bytes) {
  std::memset(to, kPoison, bytes);
  if (!valid(address, bytes)) return;
  for (uint32_t at = address; at < address + bytes; at += 4) {
    Word& word = words_[(at - kBase) / 4];
    if (word.content == Content::kNone) faults_.add("read of unwritten memory", place(at, by));
    if (word.content == Content::kInFlight) faults_.add("read of a copy in flight", place(at, by));
    check_order(by, word, "read after ", at, false);
    const bool again = word.is_read && word.read.block_epoch == by.block_epoch;
    word.by_other_warps = again && (word.by_other_warps || word.read.warp() != by.warp());
    word.by_several = again && word.read.warp_epoch == by.warp_epoch &&
                      (word.by_several || word.read.thread != by.thread);
    word.is_read = true;
    word.read = by;
  }
  std::memcpy(to, bytes_.data() + (address - kBase), bytes);
}

void SharedMemory::check_order(const Access& by, const Word& word, const char* access,
                               uint32_t address, bool adds) {
  if (word.content == Content::kWritten && !ordered(word.written, by))
    faults_.add("race", access + ("write, " + place(address, by)));
  if (!adds && word.is_added_to && word.added.block_epoch == by.block_epoch &&
      (word.by_adders || word.added.thread != by.thread))
    faults_.add("race", access + ("add, " + place(address, by)));
}

void SharedMemory::check_write(const Access& by, const Word& word, uint32_t address, bool adds) {
  if (word.content == Content::kInFlight)
    faults_.add("write to a copy in flight", place(address, by));
  check_order(by, word, adds ? "add after " : "write after ", address, adds);
  if (!word.is_read || word.read.block_epoch != by.block_epoch) return;
  const bool this_epoch = word.read.warp_epoch == by.warp_epoch;
  if (word.by_other_warps || word.read.warp() != by.warp() ||
      (this_epoch && (word.by_several || word.read.thread != by.thread)))
    faults_.add("race", "write after read, " + place(address, by));
}

void SharedMemory::write(const Access& by, uint32_t address, const void* from, uint32_t bytes) {
  if (!valid(address, bytes)) return;
  for (uint32_t at = address; at < address + bytes; at += 4) {
    Word& word = words_[(at - kBase) / 4];
    check_write(by, word, at, false);
    word.content = Content::kWritten;
    word.written = by;
  }
  std::memcpy(bytes_.data() + (address - kBase), from, bytes);
}

void SharedMemory::add(const Access& by, uint32_t address, uint32_t value) {
  if (!valid(address, 4)) return;
  Word& word = words_[(address - kBase) / 4];
  if (word.content == Content::kNone) faults_.add("read of unwritten memory", place(address, by));
  check_write(by, word, address, true);
  const bool again = word.is_added_to && word.added.block_epoch == by.block_epoch;
  word.by_adders = again && (word.by_adders || word.added.thread != by.thread);
  word.is_added_to = true;
  word.added = by;
  uint32_t sum;
  std::memcpy(&sum, bytes_.data() + (address - kBase), 4);
  sum += value;
  std::memcpy(bytes_.data() + (address - kBase), &sum, 4);
}

void SharedMemory::begin_copy(const Access& by, uint32_t address) {
  if (!valid(address, 16)) return;
  for (uint32_t at = address; at < address + 16; at += 4) {
    Word& word = words_[(at - kBase) / 4];
    check_write(by, word, at, false);
    word.content = Content::kInFlight;
    word.written = by;
  }
  std::memset(bytes_.data() + (address - kBase), kPoison, 16);
}

void SharedMemory::end_copy(const Access& by, uint32_t address, const void* from) {
  if (!valid(address, 16)) return;
  for (uint32_t at = address; at < address + 16; at += 4) {
    Word& word = words_[(at - kBase) / 4];
    word.content = Content::kWritten;
    word.written = by;
  }
  std::memcpy(bytes_.data() + (address - kBase), from, 16);
}

}  // namespace mi::test::cuda
