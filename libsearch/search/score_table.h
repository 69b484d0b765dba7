// Dense forward passes over the calibration samples, every candidate of every head scored.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "libruntime/plan.h"
#include "libsearch/data/sample.h"
#include "libsearch/model/model.h"
#include "libsearch/search/allocate.h"
#include "libsearch/search/candidates.h"
#include "libsearch/search/device_profile.h"
#include "libsearch/search/objective.h"
#include "libsearch/search/score.h"

namespace mi::search {

struct SampleScores {
  int64_t length = 0;
  // [layer][head][candidate]
  std::vector<std::vector<std::vector<CandidateScore>>> layers;
};

struct ScoreTable {
  std::vector<SampleScores> samples;
  double forward_seconds = 0;  // linear layers and dense attention
  double score_seconds = 0;
  int64_t peak_bytes = 0;  // resident memory of the program at most; 0: not recorded
};

// The most resident memory that this program has had so far.
[[nodiscard]] int64_t peak_memory();

// Leaves of the scores what a report file stores (kScoreFields) and what follows from it: shares
// from tiles, by the estimates that the candidates make. Idempotent.
void keep_stored(SampleScores& sample, const CandidateSpace& space, int head_dim);

// Fraction of a named stage that is done, in [0, 1]. Called from one thread.
using ProgressFn = std::function<void(std::string_view stage, double fraction)>;

class ForwardDevice;

struct ComputeOptions {
  const kernels::Backend* backend = nullptr;
  int threads = 1;
  int64_t last = 64;  // the prompt's last rows, dense under every candidate
  // Of the dense pass whose layers are scored; scores themselves are f32.
  runtime::Element element = runtime::Element::f32;
  // What runs that pass and the certificate's, in bf16; null: this CPU. Scores are of this CPU.
  const ForwardDevice* device = nullptr;
  bool extras = true;  // scores that the objective `square` needs (ScoreShape)
  int64_t chunk = 0;   // tokens that a prefill takes at a time; 0: all

  // What computes the layers that are scored.
  [[nodiscard]] std::string_view layers_by() const {
    return device != nullptr ? "cuda" : backend->name();
  }
};

// Scores samples from the first that `table` lacks, and adds them to it; sample_done, if given,
// is called after each.
[[nodiscard]] Status score_samples(const Model& model, std::span<const Sample> samples,
                                   const CandidateSpace& space, const ComputeOptions& options,
                                   const ProgressFn& progress, ScoreTable& table,
                                   const std::function<Status()>& sample_done = {});

// Lengths of the samples, rising.
[[nodiscard]] std::vector<int64_t> lengths_of(const ScoreTable& table);

// Per length: the mean loss over that length's samples, and each one's cost. Output errors count
// relative to their sample's average candidate.
[[nodiscard]] AllocationProblem make_problem(const ScoreTable& table, const CandidateSpace& space,
                                             Objective objective);
// The same with each candidate's predicted time as its cost.
[[nodiscard]] AllocationProblem in_time(AllocationProblem problem, const ScoreTable& table,
                                        const CandidateSpace& space, const HeadDimTimes& times);

}  // namespace mi::search
