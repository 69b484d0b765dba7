#include "libsearch/search/predict.h"

#include <algorithm>

namespace mi::search {
namespace {

// Seconds of a sample of n tokens: linear * n + square * n^2.
struct Fit {
  double linear = 0;
  double square = 0;
  [[nodiscard]] double at(int64_t tokens) const {
    const auto n = static_cast<double>(tokens);
    return linear * n + square * n * n;
  }
};

Fit fit(double short_tokens, double short_seconds, double long_tokens, double long_seconds) {
  const double a = short_seconds / short_tokens;
  const double b = long_seconds / long_tokens;
  const double square = std::max(0.0, (b - a) / (long_tokens - short_tokens));
  return {std::max(0.0, b - square * long_tokens), square};
}

// The largest buffers of a search, in bytes: what grows with tokens, one layer's weights, logits.
double peak_bytes(const ModelSpec& spec, const CandidateSpace& space, int64_t tokens, int threads) {
  const auto n = static_cast<double>(tokens);
  const double width = static_cast<double>(spec.heads) * spec.head_dim;
  const double kv_width = static_cast<double>(spec.kv_heads) * spec.head_dim;
  const double activations = n * (2.0 * spec.hidden + 2 * width + 2 * kv_width) * 4;
  // Per family 64 rows of levels, and at most as many of estimates.
  const double per_thread = n * 64 * (4.0 * 2 + 5 * static_cast<double>(space.families.size()));
  const double evidence =
      n * spec.heads * (2.0 * static_cast<double>(space.families.size()) + spec.head_dim) * 4;
  const double layer =
      4.0 * (2.0 * spec.hidden * (width + kv_width) + 3.0 * spec.hidden * spec.ffn);
  const double logits = 4.0 * 2 * 128 * spec.vocab;  // of the certificate
  return activations + per_thread * threads + evidence + 2 * layer + logits;
}

}  // namespace

Result<Prediction> predict(const Model& model, const Sample& probe,
                           std::span<const int64_t> calibration, std::span<const int64_t> held_out,
                           const SearchOptions& options) {
  const auto prefix = [&](int64_t tokens) {
    Sample sample = probe;
    sample.ids.resize(static_cast<size_t>(std::min(tokens, probe.length())));
    return sample;
  };
  const int64_t most = std::min<int64_t>(1024, probe.length());
  const Sample samples[] = {prefix(most / 4), prefix(most)};
  double forward[2] = {};
  double score[2] = {};
  double certify[2] = {};
  ComputeOptions compute = options.compute;
  compute.extras = options.objective == Objective::square;
  for (size_t i = 0; i < 2; ++i) {
    ScoreTable table;
    MI_CHECK(
        score_samples(model, std::span(samples).subspan(i, 1), options.space, compute, {}, table));
    forward[i] = table.forward_seconds;
    score[i] = table.score_seconds;
    MI_TRY(const DenseReference dense, dense_reference(model, samples[i], options.compute, {}));
    certify[i] = dense.seconds;
  }
  const auto n0 = static_cast<double>(samples[0].length());
  const auto n1 = static_cast<double>(samples[1].length());
  if (n0 == n1)
    return fail(Code::invalid_argument,
                "dry run: the samples are too short to predict from, expected 4 tokens");
  const Fit forward_fit = fit(n0, forward[0], n1, forward[1]);
  const Fit score_fit = fit(n0, score[0], n1, score[1]);
  const Fit certify_fit = fit(n0, certify[0], n1, certify[1]);
  Prediction prediction;
  int64_t longest = 0;
  for (const int64_t tokens : calibration) {
    prediction.search_seconds += forward_fit.at(tokens) + score_fit.at(tokens);
    longest = std::max(longest, tokens);
  }
  // A dense and a sparse pass, and a second dense attention to measure recall by.
  for (const int64_t tokens : held_out) {
    prediction.verify_seconds += 2 * certify_fit.at(tokens);
    longest = std::max(longest, tokens);
  }
  prediction.peak_bytes = peak_bytes(model.spec(), options.space, longest, options.compute.threads);
  return prediction;
}

}  // namespace mi::search
