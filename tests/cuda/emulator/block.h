// A block of threads as fibers of one host thread. A fiber runs until its warp or its block must
// meet; when all have come, the block does what they came for and they run on. So results do not
// depend on a schedule, and a missing barrier is found by what memory remembers, not by luck.
//
// Not emulated: time, caches, the order in which copies arrive, threads of a warp that meet in
// parts (every warp instruction here is of all 32 threads).
#pragma once

#include <boost/context/fiber.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/cuda/emulator/memory.h"

namespace mi::test::cuda {

// What a launch did.
struct Report {
  Faults faults;
  int64_t products = 0;        // mma instructions, of a warp each
  int64_t bank_conflicts = 0;  // extra cycles of ldmatrix, beyond one for each 8x8 matrix
};

class Block {
 public:
  // What threads meet for; each of one kind, or it is a fault.
  enum class Meeting { kNone, kBarrier, kWarpBarrier, kShuffle, kAny, kMatrices, kProduct, kEnd };

  struct Shuffle {
    uint32_t value;
    int mask;
    uint32_t result;
  };
  struct Vote {
    bool value;
    bool result;
  };
  struct Matrices {  // ldmatrix.x4
    uint32_t row_address;
    bool transposed;
    std::array<uint32_t, 4> fragment;
  };
  struct Product {  // mma.m16n8k16
    float* d;
    const uint32_t* a;
    std::array<uint32_t, 2> b;
    float (*widen)(uint16_t);
  };

  Block(int64_t index, int threads, uint32_t shared_bytes, const GlobalMemory& global,
        Report& report);
  void run(const std::function<void()>& kernel);

  // For the functions of ptx.h, from within a fiber.
  [[nodiscard]] static Block& current();
  [[nodiscard]] int64_t index() const { return index_; }
  [[nodiscard]] int thread() const { return running_; }
  [[nodiscard]] SharedMemory& shared() { return shared_; }
  [[nodiscard]] Access access() const;
  // Until all threads of the block (kBarrier) or of the warp have come; `argument` is one of the
  // structs above.
  void meet(Meeting meeting, void* argument);
  // Faults unless a range of global memory has it, aligned.
  [[nodiscard]] bool check_global(const void* data, size_t bytes, size_t alignment, bool write);
  void copy_async(uint32_t shared, const void* global, bool present);
  void commit_copies();
  void wait_copies(int pending);

 private:
  struct Copy {
    uint32_t shared;
    std::array<unsigned char, 16> bytes;
    int group;
  };
  struct Thread {
    boost::context::fiber fiber, caller;
    Meeting meeting = Meeting::kNone;
    void* argument = nullptr;
    std::vector<Copy> copies;
    int group = 0;  // copies of this thread now join this group
  };

  void resume(int thread);
  // Whether the threads [first, first + count) all wait for the same; if they cannot, a fault.
  [[nodiscard]] bool together(int first, int count, Meeting* meeting);
  bool run_warp(int warp);
  void perform(int warp, Meeting meeting);
  void load_matrices(int warp);
  void multiply(int warp);
  template <class T>
  [[nodiscard]] T& argument(int thread) {
    return *static_cast<T*>(threads_[static_cast<size_t>(thread)].argument);
  }

  int64_t index_;
  const GlobalMemory& global_;
  Report& report_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::vector<int64_t> warp_epochs_;
  int64_t epoch_ = 0;
  int running_ = 0;
  bool broken_ = false;  // threads cannot meet any more: they run on alone to their end
};

// Runs `kernel` once for each thread of each block.
[[nodiscard]] Report launch(int64_t blocks, int threads, uint32_t shared_bytes,
                            const GlobalMemory& global, const std::function<void()>& kernel);

}  // namespace mi::test::cuda
