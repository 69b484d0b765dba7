#include "tests/cuda/emulator/block.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mi::test::cuda {
namespace {

Block* g_current = nullptr;

// Kernels keep everything in registers or a few hundred bytes.
constexpr size_t kStackBytes = 64 * 1024;

uint16_t half_of(uint32_t pair, int which) {
  return static_cast<uint16_t>(pair >> (16 * which));
}

// Stacks that hold other bytes each time: what a kernel reads before it has written it differs
// between runs.
class Stack {
 public:
  boost::context::stack_context allocate() {
    constexpr size_t kFilled = 4096;
    static uint32_t g_state = 1;
    const boost::context::stack_context made = stack_.allocate();
    g_state = g_state * 1664525 + 1013904223;
    std::memset(static_cast<char*>(made.sp) - kFilled, static_cast<int>(g_state >> 24), kFilled);
    return made;
  }
  void deallocate(boost::context::stack_context& made) { stack_.deallocate(made); }

 private:
  boost::context::fixedsize_stack stack_{kStackBytes};
};

}  // namespace

Block::Block(int64_t index, int threads, uint32_t shared_bytes, const GlobalMemory& global,
             Report& report)
    : index_(index),
      global_(global),
      report_(report),
      shared_(shared_bytes, report.faults),
      threads_(static_cast<size_t>(threads)),
      warp_epochs_(static_cast<size_t>(threads / 32)) {}

Block& Block::current() {
  return *g_current;
}

Access Block::access() const {
  return {running_, epoch_, warp_epochs_[static_cast<size_t>(running_ / 32)]};
}

void Block::resume(int thread) {
  running_ = thread;
  Thread& state = threads_[static_cast<size_t>(thread)];
  state.meeting = Meeting::kNone;
  state.fiber = std::move(state.fiber).resume();
}

void Block::meet(Meeting meeting, void* argument) {
  if (broken_) return;
  Thread& state = threads_[static_cast<size_t>(running_)];
  state.meeting = meeting;
  state.argument = argument;
  state.caller = std::move(state.caller).resume();
}

void Block::run(const std::function<void()>& kernel) {
  g_current = this;
  for (Thread& thread : threads_)
    thread.fiber = boost::context::fiber(std::allocator_arg, Stack(),
                                         [this, &thread, &kernel](boost::context::fiber&& caller) {
                                           thread.caller = std::move(caller);
                                           kernel();
                                           thread.meeting = Meeting::kEnd;
                                           return std::move(thread.caller);
                                         });
  const int count = static_cast<int>(threads_.size());
  for (int thread = 0; thread < count; ++thread) resume(thread);
  for (bool ended = false; !ended;) {
    for (int warp = 0; warp < count / 32; ++warp)
      while (run_warp(warp)) continue;
    Meeting meeting{};
    if (together(0, count, &meeting)) {
      ended = meeting == Meeting::kEnd;
      if (ended) break;
      ++epoch_;
    }
    // At the barrier, or broken.
    for (int thread = 0; thread < count; ++thread)
      if (threads_[static_cast<size_t>(thread)].meeting != Meeting::kEnd) resume(thread);
  }
  g_current = nullptr;
}

bool Block::together(int first, int count, Meeting* meeting) {
  const auto begin = threads_.begin() + first;
  *meeting = begin->meeting;
  if (std::all_of(begin, begin + count,
                  [&](const Thread& thread) { return thread.meeting == *meeting; }))
    return true;
  if (!broken_)
    report_.faults.add("threads that should meet do not",
                       "block " + std::to_string(index_) + ", threads " + std::to_string(first) +
                           " to " + std::to_string(first + count - 1) + ", after " +
                           std::to_string(epoch_) + " barriers");
  broken_ = true;
  return false;
}

// One step of a warp that all its threads wait for; false if they wait for the block, or for ever.
bool Block::run_warp(int warp) {
  Meeting meeting{};
  if (broken_ || !together(warp * 32, 32, &meeting)) return false;
  if (meeting == Meeting::kBarrier || meeting == Meeting::kEnd) return false;
  perform(warp, meeting);
  for (int lane = 0; lane < 32; ++lane) resume(warp * 32 + lane);
  return true;
}

void Block::perform(int warp, Meeting meeting) {
  const int first = warp * 32;
  switch (meeting) {
    case Meeting::kWarpBarrier:
      ++warp_epochs_[static_cast<size_t>(warp)];
      break;
    case Meeting::kShuffle:
      for (int lane = 0; lane < 32; ++lane) {
        auto& of = argument<Shuffle>(first + lane);
        of.result = argument<Shuffle>(first + (lane ^ of.mask)).value;
      }
      break;
    case Meeting::kAny: {
      bool result = false;
      for (int lane = 0; lane < 32; ++lane) result |= argument<Vote>(first + lane).value;
      for (int lane = 0; lane < 32; ++lane) argument<Vote>(first + lane).result = result;
      break;
    }
    case Meeting::kMatrices:
      load_matrices(warp);
      break;
    case Meeting::kProduct:
      multiply(warp);
      break;
    default:
      break;
  }
}

// PTX ISA 9.7.14.5.15: threads 8i .. 8i+7 address the rows of matrix i; thread t receives of each
// matrix elements 2(t%4), 2(t%4)+1 of row t/4, or of column t/4 where it is transposed.
void Block::load_matrices(int warp) {
  const int first = warp * 32;
  for (size_t matrix = 0; matrix < 4; ++matrix) {
    uint16_t element[8][8];
    std::array<int, 8> uses{};
    for (int row = 0; row < 8; ++row) {
      running_ = first + static_cast<int>(matrix) * 8 + row;
      const uint32_t address = argument<Matrices>(running_).row_address;
      shared_.read(access(), address, element[row], 16);
      report_.bank_conflicts += uses[address / 16 % 8]++ > 0 ? 1 : 0;
    }
    for (int lane = 0; lane < 32; ++lane) {
      auto& of = argument<Matrices>(first + lane);
      const int row = lane / 4;
      const int column = lane % 4 * 2;
      const uint16_t low = of.transposed ? element[column][row] : element[row][column];
      const uint16_t high = of.transposed ? element[column + 1][row] : element[row][column + 1];
      of.fragment[matrix] = static_cast<uint32_t>(high) << 16 | low;
    }
  }
}

// PTX ISA 9.7.14.5.8, fragments of mma.m16n8k16. Sums are f32, one product after the other; tensor
// cores add in another order and round otherwise.
void Block::multiply(int warp) {
  const int first = warp * 32;
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& of = argument<Product>(first + lane);
    const int group = lane / 4;
    const int column = lane % 4 * 2;
    for (int i = 0; i < 8; ++i)
      a[group + (i / 2 % 2) * 8][column + i % 2 + i / 4 * 8] =
          of.widen(half_of(of.a[i / 2], i % 2));
    for (int i = 0; i < 4; ++i)
      b[column + i % 2 + i / 2 * 8][group] =
          of.widen(half_of(of.b[static_cast<size_t>(i / 2)], i % 2));
  }
  float sum[16][8];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = argument<Product>(first + lane).d[i];
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) sum[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      argument<Product>(first + lane).d[i] = sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  ++report_.products;
}

bool Block::check_global(const void* data, size_t bytes, size_t alignment, bool write) {
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0)
    report_.faults.add("global memory misaligned", "thread " + std::to_string(running_));
  if (global_.allows(data, bytes, write)) return true;
  report_.faults.add(write ? "global store out of bounds" : "global load out of bounds",
                     "thread " + std::to_string(running_) + " of block " + std::to_string(index_));
  return false;
}

void Block::copy_async(uint32_t shared, const void* global, bool present) {
  Thread& thread = threads_[static_cast<size_t>(running_)];
  Copy copy{shared, {}, thread.group};
  if (present && check_global(global, 16, 16, false)) std::memcpy(copy.bytes.data(), global, 16);
  shared_.begin_copy(access(), shared);
  thread.copies.push_back(copy);
}

void Block::commit_copies() {
  ++threads_[static_cast<size_t>(running_)].group;
}

void Block::wait_copies(int pending) {
  Thread& thread = threads_[static_cast<size_t>(running_)];
  const auto left =
      std::stable_partition(thread.copies.begin(), thread.copies.end(),
                            [&](const Copy& copy) { return copy.group >= thread.group - pending; });
  for (auto copy = left; copy != thread.copies.end(); ++copy)
    shared_.end_copy(access(), copy->shared, copy->bytes.data());
  thread.copies.erase(left, thread.copies.end());
}

Report launch(int64_t blocks, int threads, uint32_t shared_bytes, const GlobalMemory& global,
              const std::function<void()>& kernel) {
  Report report;
  for (int64_t index = 0; index < blocks; ++index)
    Block(index, threads, shared_bytes, global, report).run(kernel);
  return report;
}

}  // namespace mi::test::cuda
