// Greedy decoding: the prompt is prefilled by a head-config, sparse or dense, and keeps its keys
// and values; every generated token attends all of them, dense, as engines decode.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/status.h"
#include "libruntime/config.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

// Called with what is generated so far after every token; true ends the decoding. May be empty.
using StopFn = std::function<bool(std::span<const int32_t> generated)>;

// At most `most` tokens. The element of options decides the precision of both stages. One token
// costs a pass of kChunkRows rows and the reading of all weights: 0.1 s for a model of 135M.
[[nodiscard]] Result<std::vector<int32_t>> decode_greedily(
    const Model& model, const runtime::HeadConfig& config, std::span<const int32_t> prompt,
    int64_t most, const ComputeOptions& options, const StopFn& stop = {});

}  // namespace mi::search
