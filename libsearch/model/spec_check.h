// Bounds and relations that hold for every model, wherever its description came from.
#pragma once

#include <string>

#include "kernels/status.h"
#include "libsearch/model/model.h"

namespace mi::search {

// Bounds far above any published model: they keep products of sizes within 64 bits.
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxWidth = 1 << 20;  // hidden, ffn, heads * head_dim
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxContext = int64_t{1} << 32;

[[nodiscard]] Status check_spec(const ModelSpec& spec, const std::string& file);

}  // namespace mi::search
