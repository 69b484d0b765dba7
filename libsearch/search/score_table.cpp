#include "libsearch/search/score_table.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <new>
#include <set>
#include <type_traits>

#include <fmt/format.h>

#include "libruntime/cost.h"
#include "libsearch/search/clock.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/wide_tensor.h"

namespace mi::search {
namespace {

double loss_of(const CandidateScore& score, Objective objective) {
  switch (objective) {
    case Objective::error:
      return score.error;
    case Objective::square:
      return score.square;
    case Objective::mass:
      return std::max(0.0, 1 - score.recall);
  }
  return 0;
}

// Output errors of one sample differ from another's by an order of magnitude (a list of random
// keys and values against prose), and the mean would be the noisier sample's: each sample counts
// by its error relative to what all its candidates have on average.
double sample_weight(const SampleScores& sample, Objective objective) {
  if (objective != Objective::error) return 1;
  double total = 0;
  for (const auto& layer : sample.layers)
    for (const auto& head : layer)
      for (const CandidateScore& score : head)
        total += score.error / static_cast<double>(head.size());
  return total > 0 ? 1 / total : 1;
}

// Work of a sample in arbitrary units, for the progress bar: linear layers and attention.
double work(const ModelSpec& spec, int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  return n * (4.0 * spec.hidden * spec.hidden + 3.0 * spec.hidden * spec.ffn) +
         6.0 * n * n * spec.heads * spec.head_dim;
}

// All exponent bits set: an infinity or no number.
bool is_wild(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7f800000U) == 0x7f800000U;
}
bool is_wild(bf16 x) {
  return (x.bits & 0x7f80U) == 0x7f80U;
}

// Weights that are finite but absurd give infinities, and no score of those means anything.
template <class T>
Status check_finite(const ModelSpec& spec, int layer, TensorView<const T, 3> o, int threads) {
  const int64_t heads = o.extent[0];
  int64_t first = heads;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(min : first)
  for (int64_t h = 0; h < heads; ++h) {
    unsigned wild = 0;
    for (int64_t i = 0; i < o.extent[1]; ++i)
      for (int64_t x = 0; x < o.extent[2]; ++x) wild |= is_wild(o[h][i][x]) ? 1U : 0U;
    if (wild != 0) first = std::min(first, h);
  }
  if (first == heads) return {};
  return fail(Code::unsupported,
              fmt::format("{}: layer {} head {}: the attention output is not finite", spec.name,
                          layer, first));
}

// Of a finite output whose weights or residual are not.
Status check_finite(const ModelSpec& spec, int layer,
                    const std::vector<std::vector<CandidateScore>>& heads) {
  for (size_t h = 0; h < heads.size(); ++h)
    for (const CandidateScore& score : heads[h])
      if (!std::isfinite(score.recall + score.square + score.error))
        return fail(
            Code::unsupported,
            fmt::format("{}: layer {} head {}: its scores are not finite", spec.name, layer, h));
  return {};
}

// What the scorer reads of a layer, as f32: the tensors themselves, or copies of their bf16 values.
class WideLayer {
 public:
  explicit WideLayer(int threads) : threads_(threads) {}

  LayerAttention of(const LayerQkv& layer) {
    LayerAttention wide;
    wide.q = layer.q;
    wide.k = layer.k;
    wide.v = layer.v;
    return wide;
  }
  LayerAttention of(const BasicLayerQkv<bf16>& layer) {
    LayerAttention wide;
    wide.q = q_.of(layer.q, threads_);
    wide.k = k_.of(layer.k, threads_);
    wide.v = v_.of(layer.v, threads_);
    wide.k_bf16 = layer.k;
    wide.v_bf16 = layer.v;
    return wide;
  }

 private:
  int threads_;
  WideTensor q_, k_, v_;
};

// One dense pass with every layer scored; returns the seconds that the scoring took.
template <class T>
Result<double> score_sample(const Model& model, const Sample& sample, const CandidateSpace& space,
                            const ComputeOptions& options, const LayerProgressFn& layer_done,
                            SampleScores& scores) {
  const ModelSpec& spec = model.spec();
  const int64_t tokens = sample.length();
  scores.length = tokens;
  LayerScorer scorer(space,
                     {.tokens = tokens,
                      .heads = spec.heads,
                      .kv_heads = spec.kv_heads,
                      .head_dim = spec.head_dim,
                      .last = options.last,
                      .threads = options.threads,
                      .extras = options.extras},
                     *options.backend);
  WideLayer wide(options.threads);
  double scoring = 0;
  const auto score = [&](const BasicLayerQkv<T>& layer, TensorView<const T, 3> o,
                         TensorView<const float, 2> lse) -> Status {
    const Clock::time_point start = Clock::now();
    MI_CHECK(check_finite(spec, layer.layer, o, options.threads));
    LayerAttention scored = wide.of(layer);
    scored.lse = lse;
    scored.sinks = layer.sinks;
    scored.residual = layer.residual;
    scored.wo = layer.wo;
    scored.scale = static_cast<float>(runtime::attention_scale(spec.scale, spec.head_dim));
    scored.softcap = static_cast<float>(spec.softcap);
    scores.layers.push_back(scorer.score(scored));
    MI_CHECK(check_finite(spec, layer.layer, scores.layers.back()));
    scoring += seconds_since(start);
    return {};
  };
  if constexpr (std::is_same_v<T, bf16>) {
    if (options.device != nullptr) {
      MI_TRY([[maybe_unused]] const auto hidden,
             options.device->dense(
                 model, sample.ids, options,
                 [&](const LayerDone& layer) { return score(layer.qkv, layer.o, layer.lse); },
                 layer_done));
      return scoring;
    }
  }
  MI_TRY(PlannedAttention dense,
         PlannedAttention::make(dense_config(spec), tokens, options, options.element));
  const BasicAttentionFn<T> attention = [&](const BasicLayerQkv<T>& layer,
                                            TensorView<T, 3> o) -> Status {
    MI_CHECK(dense.run(layer, o));
    return layer.window > 0 ? Status{} : score(layer, o, dense.lse());
  };
  MI_TRY([[maybe_unused]] const auto hidden, model.forward(sample.ids, attention, layer_done));
  return scoring;
}

}  // namespace

void keep_stored(SampleScores& sample, const CandidateSpace& space, int head_dim) {
  const runtime::CallShape call{sample.length, sample.length, head_dim};
  std::vector<double> estimates;  // [candidates - 1]
  for (const Family& family : space.families)
    estimates.insert(estimates.end(), family.values.size(),
                     runtime::make_estimator(family.params)->flops(call));
  for (auto& layer : sample.layers)
    for (auto& head : layer)
      for (size_t c = 0; c < head.size(); ++c) {
        for (const ScoreField& field : kScoreFields)
          head[c].*field.value = static_cast<double>(static_cast<float>(head[c].*field.value));
        head[c].share =
            c == estimates.size()
                ? 1
                : runtime::cost_share(call, static_cast<int64_t>(head[c].tiles), estimates[c]);
      }
}

Status score_samples(const Model& model, std::span<const Sample> samples,
                     const CandidateSpace& space, const ComputeOptions& options,
                     const ProgressFn& progress, ScoreTable& table,
                     const std::function<Status()>& sample_done) try {
  const ModelSpec& spec = model.spec();
  double total = 0;
  double done = 0;
  for (size_t s = 0; s < samples.size(); ++s)
    (s < table.samples.size() ? done : total) += work(spec, samples[s].length());
  total += done;
  for (const Sample& sample : samples.subspan(table.samples.size())) {
    const Clock::time_point start = Clock::now();
    const double own = work(spec, sample.length());
    const auto layer_done = [&](int layers, int of) {
      if (progress) progress("search", (done + own * layers / of) / total);
    };
    const auto run =
        options.element == runtime::Element::bf16 ? score_sample<bf16> : score_sample<float>;
    SampleScores scores;
    MI_TRY(const double scoring, run(model, sample, space, options, layer_done, scores));
    keep_stored(scores, space, spec.head_dim);
    table.samples.push_back(std::move(scores));
    done += own;
    table.score_seconds += scoring;
    table.forward_seconds += seconds_since(start) - scoring;
    table.peak_bytes = std::max(table.peak_bytes, peak_memory());
    if (sample_done) MI_CHECK(sample_done());
  }
  return {};
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "scoring: not enough memory for samples of this length");
}

std::vector<int64_t> lengths_of(const ScoreTable& table) {
  std::set<int64_t> lengths;
  for (const SampleScores& sample : table.samples) lengths.insert(sample.length);
  return {lengths.begin(), lengths.end()};
}

AllocationProblem make_problem(const ScoreTable& table, const CandidateSpace& space,
                               Objective objective) {
  AllocationProblem problem;
  for (size_t c = 0; c < space.candidates(); ++c)
    problem.families.push_back(candidate_id(space, c).family);
  for (int64_t length : lengths_of(table)) {
    auto& heads = problem.choices.emplace_back();
    double samples = 0;
    for (const SampleScores& sample : table.samples) {
      if (sample.length != length) continue;
      ++samples;
      const double weight = sample_weight(sample, objective);
      size_t at = 0;
      for (const auto& layer : sample.layers) {
        for (const auto& head : layer) {
          if (at == heads.size()) heads.emplace_back(head.size());
          auto& choices = heads[at++];
          for (size_t c = 0; c < head.size(); ++c) {
            choices[c].cost.push_back(head[c].share);
            choices[c].loss += weight * loss_of(head[c], objective);
            choices[c].recall_p05 = std::min(choices[c].recall_p05, head[c].recall_p05);
          }
        }
      }
    }
    for (auto& head : heads)
      for (Choice& choice : head) choice.loss /= samples;
  }
  return problem;
}

AllocationProblem in_time(AllocationProblem problem, const ScoreTable& table,
                          const CandidateSpace& space, const HeadDimTimes& times) {
  const auto lengths = lengths_of(table);
  const auto layers = static_cast<double>(table.samples.front().layers.size());
  for (size_t t = 0; t < lengths.size(); ++t) {
    const runtime::CallShape call{lengths[t], lengths[t], times.head_dim};
    // The heads of a layer share what a call costs, whatever they run.
    const auto in_layer = static_cast<double>(table.samples.front().layers.front().size());
    const double of_call = times.call / in_layer;
    const double dense = of_call + times.dense_ms(call);
    problem.dense_ms.push_back(dense * in_layer * layers);
    size_t sample_at = 0;
    for (const SampleScores& sample : table.samples) {
      if (sample.length != lengths[t]) continue;
      size_t at = 0;
      for (const auto& layer : sample.layers) {
        for (const auto& head : layer) {
          auto& choices = problem.choices[t][at++];
          for (size_t c = 0; c < head.size(); ++c) {
            const size_t family = problem.families[c];
            const double ms =
                family == space.families.size()
                    ? dense
                    : of_call + times.head_ms(call, space.families[family].params, head[c].tiles);
            choices[c].cost[sample_at] = ms / dense;
          }
        }
      }
      ++sample_at;
    }
  }
  return problem;
}

int64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace mi::search
