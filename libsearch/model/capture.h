// Captures: q, k and v of every layer as some engine computed them for one prompt, in an HDF5 file,
// and the Model that they make: it can be searched, but neither certified nor asked for logits.
//   attributes  schema "mi.capture", schema_version 1, model, architecture, layers, heads,
//   kv_heads,
//               head_dim, tokens; scale (1/sqrt(head_dim) if absent), softcap, rope_theta, source,
//               attention_layers (which of the model's layers these are, as "5,11,17"), hidden
//   /layer_000/q [heads, tokens, head_dim], after positional encoding; k and v [kv_heads, tokens,
//               head_dim]; floats of any size, or bf16 as 16-bit integers. Where there is
//               `hidden`, also residual [tokens, hidden], the stream that attention is added to,
//               and wo [hidden, heads * head_dim]: output errors are then a model's own. Of a model
//               with attention sinks, in every layer: sinks [heads], scores as the softmax sees
//               them
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "kernels/status.h"
#include "libsearch/data/sample.h"
#include "libsearch/model/model.h"

namespace mi::search {

inline constexpr int kCaptureVersion = 1;

struct Captured {
  std::unique_ptr<Model> model;
  std::vector<Sample> samples;  // one a file; their ids name the file to the model, nothing else
};

// Files of one model. Code::schema with what was found and expected for all that is no capture, or
// one of another model.
[[nodiscard]] Result<Captured> open_captures(std::span<const std::filesystem::path> paths);

}  // namespace mi::search
