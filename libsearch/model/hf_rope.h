// How config.json describes the rotary embedding.
#pragma once

#include "kernels/status.h"
#include "libsearch/model/json_reader.h"
#include "libsearch/model/rope.h"

namespace mi::search {

// `rope_theta` beside an optional `rope_scaling`, or both inside the newer `rope_parameters`.
// context: max_position_embeddings.
[[nodiscard]] Result<Rope> read_hf_rope(const JsonObject& config, int head_dim, int64_t context);
// Of layers with a window, where they have their own: `rope_local_base_freq`, or a part of
// `rope_parameters`.
[[nodiscard]] Result<Rope> read_hf_local_rope(const JsonObject& config, int head_dim, double theta);

}  // namespace mi::search
