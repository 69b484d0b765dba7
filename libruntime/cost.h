// What a pattern costs: the floating-point operations that the kernels execute, in one place for
// search, plan and report.
#pragma once

#include <cstdint>

#include "kernels/attention.h"

namespace mi::runtime {

// Shape of one attention call; all heads of a layer share it.
struct CallShape {
  int64_t n_q = 0;
  int64_t n_kv = 0;
  int head_dim = 0;

  [[nodiscard]] int64_t row_blocks() const {
    return (n_q + kernels::kRowBlock - 1) / kernels::kRowBlock;
  }
  [[nodiscard]] int64_t keys_end(int64_t block) const {
    const int64_t rows_end = (block + 1) * kernels::kRowBlock;
    return (rows_end < n_q ? rows_end : n_q) + n_kv - n_q;
  }
};

// Key tiles of 64 that a row block executes for that many selected keys.
[[nodiscard]] inline int64_t tiles_for(int64_t keys) {
  return (keys + kernels::kKeyTile - 1) / kernels::kKeyTile;
}
// A tile costs Q K^T and P V of 64 rows by 64 keys: 4 * d * 64 * 64.
[[nodiscard]] inline double tile_flops(int head_dim) {
  return 4.0 * head_dim * kernels::kRowBlock * kernels::kKeyTile;
}
[[nodiscard]] inline int64_t dense_tiles(const CallShape& shape) {
  int64_t tiles = 0;
  for (int64_t m = 0; m < shape.row_blocks(); ++m) tiles += tiles_for(shape.keys_end(m));
  return tiles;
}
// Cost of a head as a share of dense attention; estimating is part of it.
[[nodiscard]] inline double cost_share(const CallShape& shape, int64_t tiles,
                                       double estimate_flops) {
  const double dense = static_cast<double>(dense_tiles(shape)) * tile_flops(shape.head_dim);
  return (static_cast<double>(tiles) * tile_flops(shape.head_dim) + estimate_flops) / dense;
}

}  // namespace mi::runtime
