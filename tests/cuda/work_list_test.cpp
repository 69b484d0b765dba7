// The host's part of a launch: what the work list makes of bitmaps.
#include "kernels/cuda/work_list.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace mi::kernels::cuda {
namespace {

std::vector<int32_t> keys_of(const WorkList& work, const Selection& selection) {
  std::vector<int32_t> keys;
  for (int32_t r = 0; r < selection.runs; ++r) {
    const KeyRun run = work.runs()[static_cast<size_t>(selection.first_run + r)];
    const int32_t end = r + 1 < selection.runs
                            ? work.runs()[static_cast<size_t>(selection.first_run + r + 1)].position
                            : selection.run_keys;
    for (int32_t i = run.position; i < end; ++i) keys.push_back(run.key + i - run.position);
  }
  for (int32_t c = 0; c < selection.columns; ++c)
    keys.push_back(work.columns()[static_cast<size_t>(selection.first_column + c)]);
  return keys;
}

TEST_CASE("a work list by hand: a run of 8, a stretch of 2, a single key") {
  // Keys 3-10, 62-63 and 70 of 72.
  const uint64_t words[] = {uint64_t{0xff} << 3 | uint64_t{3} << 62, uint64_t{1} << 6};
  WorkList work;
  work.add(5, 6, 7, 72, words);
  REQUIRE(work.items().size() == 1);
  CHECK(work.items()[0].sequence == 5);
  CHECK(work.items()[0].head == 6);
  CHECK(work.items()[0].block == 7);
  CHECK(work.items()[0].selection == 0);
  REQUIRE(work.runs().size() == 1);
  CHECK(work.runs()[0].key == 3);
  CHECK(work.selections()[0].run_keys == 8);
  CHECK(work.columns() == std::vector<int32_t>{62, 63, 70});
  CHECK(work.keys(0) == 11);
}

TEST_CASE("a work list has every key of any bitmap once") {
  std::mt19937_64 engine(7);
  for (int64_t end = 1; end < 400; end += 13) {
    WorkList work;
    std::vector<std::vector<int32_t>> want;
    for (const unsigned sparsity :
         {0U, 1U, 2U, 20U}) {  // 0: every key; else one stretch in so many
      std::vector<uint64_t> words(static_cast<size_t>(bitmap_words(end)));
      std::vector<int32_t> keys;
      bool on = true;
      for (int64_t j = 0; j < end; ++j) {
        if (sparsity > 0 && engine() % 6 == 0) on = engine() % sparsity == 0;
        if (!on) continue;
        words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
        keys.push_back(static_cast<int32_t>(j));
      }
      work.add(0, 0, 0, end, words.data());
      want.push_back(keys);
    }
    for (size_t i = 0; i < want.size(); ++i) {
      std::vector<int32_t> got = keys_of(work, work.selections()[i]);
      std::sort(got.begin(), got.end());
      CHECK(got == want[i]);
      CHECK(work.keys(i) == static_cast<int64_t>(want[i].size()));
    }
  }
}

TEST_CASE("a work list puts the longest first and keeps the order of equal ones") {
  const uint64_t none = 0, one = 2, two = 3;
  WorkList work;
  work.add(0, 0, 0, 64, &none);
  work.add(0, 1, 0, 65, nullptr);
  work.add(0, 2, 0, 64, &one);
  work.add(0, 3, 0, 66, nullptr);
  work.add(0, 4, 0, 64, &two);
  work.sort();
  std::vector<int> heads;
  for (const WorkItem& item : work.items()) heads.push_back(item.head);
  CHECK(heads == std::vector<int>{1, 3, 2, 4, 0});
  CHECK(work.items()[0].selection == kEveryKey);
  CHECK(work.items()[2].selection == 1);
  CHECK(work.keys(2) == 1);
}

}  // namespace
}  // namespace mi::kernels::cuda
