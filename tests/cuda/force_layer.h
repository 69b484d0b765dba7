// Forced keys on the emulated device against the selection of libruntime.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/cuda/emulator/ptx.h"

#include "kernels/backend.h"
#include "kernels/cuda/force.cuh"
#include "libruntime/estimator.h"

namespace mi::test::cuda {
using kernels::cuda::ForceCall;
using kernels::cuda::ForcedKeys;
using kernels::cuda::RowBlock;

// The bitmap of a head [row_blocks, bitmap_words(n_kv)] as the host selects it: its forced keys and
// those of `estimated`, or for a head with a window what a_shape attends.
inline std::vector<uint64_t> host_bitmap(const ForcedKeys& rule, const kernels::AttentionHead& head,
                                         std::vector<uint64_t> estimated) {
  const int64_t stride = kernels::bitmap_words(head.n_kv);
  runtime::EstimatorParams params;
  params.pattern = rule.window > 0 ? runtime::Pattern::a_shape : runtime::Pattern::stripe;
  params.sink = rule.sink;
  params.local = rule.local;
  params.last = rule.last;
  if (rule.window > 0) {
    std::vector<int64_t> tiles(static_cast<size_t>(head.row_blocks()));
    runtime::make_estimator(params)->select(head, *kernels::available_backends().front(), {}, 0,
                                            head.row_blocks(), 1 / static_cast<float>(rule.window),
                                            {.words = estimated.data(), .tiles = tiles.data()});
    return estimated;
  }
  for (int64_t m = 0; m < head.row_blocks(); ++m) {
    const runtime::KeyRange unforced = runtime::unforced_keys(params, head, m);
    for (int64_t j = 0; j < head.keys_end(m); ++j)
      if (j < unforced.begin || j >= unforced.end)
        estimated[static_cast<size_t>(m * stride + j / 64)] |= uint64_t{1} << (j % 64);
  }
  return estimated;
}

// Empty if every bitmap is the host's: heads [sequences, num_heads], n_q and n_kv of each sequence.
// Words behind a row block's last key must stay as they are.
inline std::string check_forced(const std::vector<std::pair<int64_t, int64_t>>& sequences,
                                const std::vector<ForcedKeys>& heads, uint64_t seed) {
  const size_t num_heads = heads.size() / sequences.size();
  std::mt19937_64 engine(seed);
  std::vector<std::vector<uint64_t>> got, want;
  std::vector<RowBlock> blocks;
  for (size_t i = 0; i < heads.size(); ++i) {
    kernels::AttentionHead head;
    std::tie(head.n_q, head.n_kv) = sequences[i / num_heads];
    const int64_t stride = kernels::bitmap_words(head.n_kv);
    got.emplace_back(static_cast<size_t>(head.row_blocks() * stride));
    for (int64_t m = 0; m < head.row_blocks(); ++m) {
      uint64_t* words = got[i].data() + m * stride;
      const int64_t end = head.keys_end(m);
      for (int64_t at = 0; at < stride; ++at) {
        words[at] = engine() & engine();
        if (at * 64 < end && end < at * 64 + 64) words[at] &= (uint64_t{1} << (end % 64)) - 1;
      }
      blocks.push_back(kernels::cuda::row_block(static_cast<int>(i / num_heads),
                                                static_cast<int>(i % num_heads), m, head.n_q,
                                                head.n_kv, words));
    }
    want.push_back(host_bitmap(heads[i], head, got[i]));
  }
  GlobalMemory memory;
  memory.add(blocks);
  memory.add(heads);
  for (std::vector<uint64_t>& words : got)
    memory.add(words.data(), words.size() * sizeof(uint64_t), true);
  const ForceCall call{blocks.data(), heads.data(), static_cast<int32_t>(num_heads)};
  std::string wrong =
      launch(static_cast<int64_t>(blocks.size()), kernels::cuda::kThreads, 0, memory, [&] {
        kernels::cuda::block_force_keys(call);
      }).faults.text();
  for (size_t i = 0; i < heads.size(); ++i)
    if (got[i] != want[i])
      wrong += "sequence " + std::to_string(i / num_heads) + " head " +
               std::to_string(i % num_heads) + ": other keys\n";
  return wrong;
}

}  // namespace mi::test::cuda
