// Bounds and relations that hold for every model, wherever its description came from.
#pragma once

#include <string>
#include <vector>

#include "kernels/status.h"
#include "libsearch/model/model.h"

namespace mi::search {

// Bounds far above any published model: they keep products of sizes within 64 bits.
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxWidth = 1 << 20;  // hidden, ffn, heads * head_dim
inline constexpr int64_t kMaxExperts = 4096;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxContext = int64_t{1} << 32;

// What every layer's window (0: none) says of a spec whose `layers` counts all of them: those
// without are the layers of a search. Where all have one, prompts up to it run as if none had.
void set_windows(std::vector<int64_t> windows, ModelSpec& spec);

[[nodiscard]] Status check_spec(const ModelSpec& spec, const std::string& file);

}  // namespace mi::search
