#include <catch2/catch.hpp>

#include "tests/cuda/force_layer.h"

namespace mi::test::cuda {
namespace {

// n_q, n_kv
const std::vector<std::pair<int64_t, int64_t>> kShapes = {
    {1, 1},     {63, 63},   {64, 64},      {65, 65},           {1, 64}, {1, 200}, {64, 65},
    {130, 257}, {300, 300}, {200, 64 * 5}, {65, 64 * 140 + 3},
};

TEST_CASE("forced keys: those of the host added to an estimate's, for any shape") {
  for (const ForcedKeys& rule : std::vector<ForcedKeys>{{},
                                                        {16, 128, 64},
                                                        {64, 0, 0},
                                                        {0, 1, 0},
                                                        {0, 0, 1},
                                                        {1000, 0, 65},
                                                        {3, 70, 0},
                                                        {7, 100000, 1}})
    for (const auto& shape : kShapes) {
      INFO("n_q " << shape.first << " n_kv " << shape.second << " sink " << rule.sink << " local "
                  << rule.local << " last " << rule.last);
      CHECK(check_forced({shape}, {rule}, 1) == "");
    }
}

TEST_CASE("forced keys: an a_shape head is the host's, for any shape") {
  for (const int32_t window : {1, 2, 63, 64, 65, 100, 1024})
    for (const ForcedKeys& rule : std::vector<ForcedKeys>{
             {0, 0, 0, window}, {1, 0, 64, window}, {70, 0, 1, window}, {5, 80, 0, window}})
      for (const auto& shape : kShapes) {
        INFO("n_q " << shape.first << " n_kv " << shape.second << " sink " << rule.sink << " local "
                    << rule.local << " last " << rule.last << " window " << window);
        CHECK(check_forced({shape}, {rule}, 2) == "");
      }
}

TEST_CASE("forced keys: a rule for each head of each sequence") {
  CHECK(check_forced({{70, 70}, {130, 400}},
                     {{16, 64, 0}, {4, 0, 0, 100}, {0, 0, 64}, {9, 0, 0, 33}, {1, 2, 3}, {}},
                     3) == "");
}

TEST_CASE("forced keys: a row block without a bitmap is passed over") {
  const std::vector<RowBlock> blocks = {kernels::cuda::row_block(0, 0, 0, 64, 64, nullptr)};
  const std::vector<ForcedKeys> heads = {{16, 128, 64}};
  GlobalMemory memory;
  memory.add(blocks);
  memory.add(heads);
  const ForceCall call{blocks.data(), heads.data(), 1};
  CHECK(launch(1, kernels::cuda::kThreads, 0, memory, [&] {
          kernels::cuda::block_force_keys(call);
        }).faults.text() == "");
}

}  // namespace
}  // namespace mi::test::cuda
