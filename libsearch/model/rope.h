// Rotary position embedding: the angle that each pair of a head's dimensions turns by per token,
// as checkpoints stretch it past the context that they were first trained on.
#pragma once

#include <cstdint>
#include <vector>

namespace mi::search {

enum class RopeScaling {
  none,
  linear,   // every angle divided by factor
  dynamic,  // NTK-aware: the base grows with the prompt, once that is longer than the context
  llama3,   // long waves divided by factor, short ones kept, between them interpolated
  yarn,     // the same by YaRN's ramp (arXiv 2309.00071)
  factors,  // every pair divided by its own, of two sets for short and long prompts (LongRoPE,
            // arXiv 2402.13753)
};

struct Rope {
  double theta = 0;
  int dim = 0;  // dimensions of a head that turn, the first ones; even
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;
  double attention_factor = 1;  // multiplies cosines and sines, so scores by its square
  int64_t original_context = 0;
  double low_factor = 1, high_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;    // yarn: turns within the original context
  bool truncate = true;                    // yarn: the ramp begins and ends at whole pairs
  std::vector<double> short_factors;       // [dim / 2] of prompts within the original context
  std::vector<double> long_factors;        // [dim / 2] of longer ones

  friend bool operator==(const Rope&, const Rope&) = default;
};

// Radians per token of every pair, [dim / 2], for a prompt of so many tokens in all; `context` is
// the model's.
[[nodiscard]] std::vector<double> rope_frequencies(const Rope& rope, int64_t tokens,
                                                   int64_t context);

// Of positions [first, first + tokens), attention factor included.
struct RopeAngles {
  std::vector<float> cosine, sine;  // [tokens, dim / 2]
};
[[nodiscard]] RopeAngles rope_angles(const Rope& rope, int64_t first, int64_t tokens,
                                     int64_t context);

// The attention factor that YaRN and LongRoPE take where a checkpoint names none.
[[nodiscard]] double yarn_attention_factor(double factor, double mscale = 1);
[[nodiscard]] double longrope_attention_factor(double factor, int64_t original_context);

}  // namespace mi::search
