#include "libsearch/search/verify.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include <Eigen/Core>

#include "libsearch/search/clock.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/wide_tensor.h"

namespace mi::search {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Every 16th row carries the output error of a layer: 512 rows of an 8192-token sample.
constexpr int64_t kErrorStride = 16;
constexpr int64_t kLogitRows = 128;

// ||(o - o~) W_O||^2 / ||residual||^2, mean over sampled rows; the heads' errors add as vectors.
double layer_error(const LayerQkv& layer, const TensorView<const float, 3>& dense,
                   const TensorView<const float, 3>& sparse) {
  const int64_t heads = dense.extent[0];
  const int64_t tokens = dense.extent[1];
  const int64_t dim = dense.extent[2];
  const int64_t rows = (tokens + kErrorStride - 1) / kErrorStride;
  Matrix difference(rows, heads * dim);
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < dim; ++k)
        difference(r, h * dim + k) = dense[h][r * kErrorStride][k] - sparse[h][r * kErrorStride][k];
  const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> wo(
      layer.wo.data, layer.wo.extent[0], layer.wo.extent[1],
      Eigen::OuterStride<>(layer.wo.stride[0]));
  const Matrix projected = difference * wo.transpose();
  double error = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const Eigen::Map<const Eigen::RowVectorXf> residual(
        layer.residual.data + r * kErrorStride * layer.residual.stride[0],
        layer.residual.extent[1]);
    error += static_cast<double>(projected.row(r).squaredNorm()) /
             std::max(1e-30, static_cast<double>(residual.squaredNorm()));
  }
  return error / static_cast<double>(rows);
}

// Sums over positions of what the two models predict.
struct LogitSums {
  double kl = 0;
  double agree = 0;
  double dense_nll = 0;
  double sparse_nll = 0;
};

// Log-probabilities in place; returns the preferred token.
int64_t log_softmax(Eigen::Ref<Eigen::RowVectorXf> logits) {
  Eigen::Index best = 0;
  const float top = logits.maxCoeff(&best);
  const float sum = (logits.array() - top).exp().sum();
  logits.array() -= top + std::log(sum);
  return best;
}

Status compare_logits(const Model& model, const Sample& sample, const Tensor<float, 2>& dense,
                      const Tensor<float, 2>& sparse, int threads, SampleVerdict& verdict) {
  const int64_t tokens = sample.length();
  const int64_t vocab = model.spec().vocab;
  Matrix dense_logits(kLogitRows, vocab);
  Matrix sparse_logits(kLogitRows, vocab);
  LogitSums sums;
  for (int64_t begin = 0; begin < tokens; begin += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, tokens - begin);
    const auto of = [&](const Tensor<float, 2>& hidden) {
      return TensorView<const float, 2>(hidden.data() + begin * hidden.extent(1),
                                        {rows, hidden.extent(1)});
    };
    MI_CHECK(model.logits(of(dense), {dense_logits.data(), {rows, vocab}}));
    MI_CHECK(model.logits(of(sparse), {sparse_logits.data(), {rows, vocab}}));
    std::vector<LogitSums> row_sums(static_cast<size_t>(rows));
    std::vector<int64_t> dense_best(static_cast<size_t>(rows)), sparse_best(dense_best);
#pragma omp parallel for num_threads(threads)
    for (int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<size_t>(r);
      auto p = dense_logits.row(r);
      auto q = sparse_logits.row(r);
      dense_best[at] = log_softmax(p);
      sparse_best[at] = log_softmax(q);
      LogitSums& own = row_sums[at];
      // At least 0, but where p and q are nearly the same rounding leaves sums down to -1e-7.
      const float kl = (p.array().exp() * (p.array() - q.array())).sum();
      own.kl = std::max(static_cast<double>(kl), 0.0);
      own.agree = dense_best[at] == sparse_best[at] ? 1 : 0;
      if (begin + r + 1 >= tokens) continue;
      const int32_t next = sample.ids[static_cast<size_t>(begin + r + 1)];
      own.dense_nll = -static_cast<double>(p(next));
      own.sparse_nll = -static_cast<double>(q(next));
    }
    for (int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<size_t>(r);
      sums.kl += row_sums[at].kl;
      sums.agree += row_sums[at].agree;
      sums.dense_nll += row_sums[at].dense_nll;
      sums.sparse_nll += row_sums[at].sparse_nll;
    }
  }
  const auto n = static_cast<double>(tokens);
  verdict.kl = sums.kl / n;
  verdict.top1 = sums.agree / n;
  verdict.dense_nll = sums.dense_nll / std::max(1.0, n - 1);
  verdict.sparse_nll = sums.sparse_nll / std::max(1.0, n - 1);
  return {};
}

struct Attended {
  TensorView<const float, 3> o;    // [heads, tokens, head_dim]
  TensorView<const float, 2> lse;  // [heads, tokens]
};

// Adds what a layer's sparse attention lost to a verdict.
struct LayerMeasurer {
  const ModelSpec& spec;
  SampleVerdict& verdict;
  PictureTaker* pictures;

  void operator()(const LayerQkv& layer, const Attended& dense, const Attended& sparse,
                  std::span<const runtime::HeadStats> stats) const {
    const double heads = static_cast<double>(spec.heads) * spec.layers;
    const int64_t tokens = verdict.length;
    for (int64_t h = 0; h < spec.heads; ++h) {
      const float* with = sparse.lse[h].data;
      const float* full = dense.lse[h].data;
      double recall = 0;
      for (int64_t i = 0; i < tokens; ++i) {
        const double kept = std::min(1.0, std::exp(static_cast<double>(with[i] - full[i])));
        recall += kept;
        verdict.lost_square += (1 - kept) * (1 - kept) / static_cast<double>(tokens) / heads;
      }
      recall /= static_cast<double>(tokens);
      verdict.recall += recall / heads;
      verdict.recall_min = std::min(verdict.recall_min, recall);
      const runtime::HeadStats& of = stats[static_cast<size_t>(h)];
      verdict.share += of.share / heads;
      verdict.capped_heads += of.capped ? 1 : 0;
    }
    verdict.output_error += layer_error(layer, dense.o, sparse.o) / spec.layers;
    if (pictures != nullptr) pictures->draw(layer, dense.lse);
  }
};

}  // namespace

Result<DenseReference> dense_reference(const Model& model, const Sample& sample,
                                       const ComputeOptions& options,
                                       const LayerProgressFn& progress) try {
  const Clock::time_point start = Clock::now();
  DenseReference reference;
  if (options.device != nullptr) {
    MI_TRY(reference.hidden, options.device->dense(model, sample.ids, options, {}, progress));
    reference.seconds = seconds_since(start);
    return reference;
  }
  MI_TRY(PlannedAttention dense,
         PlannedAttention::make(dense_config(model.spec()), sample.length(), options));
  MI_TRY(reference.hidden,
         model.forward(
             sample.ids,
             [&](const LayerQkv& layer, TensorView<float, 3> o) { return dense.run(layer, o); },
             progress));
  reference.seconds = seconds_since(start);
  return reference;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "verify: not enough memory for a sample of this length");
}

Result<SampleVerdict> verify_sample(const Model& model, const runtime::HeadConfig& config,
                                    const Sample& sample, const DenseReference& reference,
                                    const ComputeOptions& options, const LayerProgressFn& progress,
                                    PictureTaker* pictures) try {
  const ModelSpec& spec = model.spec();
  const int64_t tokens = sample.length();
  const Clock::time_point start = Clock::now();
  SampleVerdict verdict;
  verdict.length = tokens;
  double measuring = 0;
  const LayerMeasurer measure{spec, verdict, pictures};
  Tensor<float, 2> hidden;
  if (options.device != nullptr) {
    WideTensor q, k, v, dense_o, sparse_o;
    const auto layer_done = [&](const LayerCompared& layer) -> Status {
      const Clock::time_point measuring_start = Clock::now();
      const BasicLayerQkv<bf16>& of = layer.dense.qkv;
      LayerQkv wide;
      wide.layer = of.layer;
      wide.q = q.of(of.q, options.threads);
      wide.k = k.of(of.k, options.threads);
      wide.v = v.of(of.v, options.threads);
      wide.residual = of.residual;
      wide.wo = of.wo;
      measure(wide, {dense_o.of(layer.dense.o, options.threads), layer.dense.lse},
              {sparse_o.of(layer.o, options.threads), layer.lse}, layer.stats);
      measuring += seconds_since(measuring_start);
      return {};
    };
    MI_TRY(SparsePass pass,
           options.device->sparse(model, config, sample.ids, options, layer_done, progress));
    hidden = std::move(pass.hidden);
    verdict.notes = std::move(pass.notes);
  } else {
    MI_TRY(PlannedAttention dense, PlannedAttention::make(dense_config(spec), tokens, options));
    MI_TRY(PlannedAttention sparse, PlannedAttention::make(config, tokens, options));
    verdict.notes = sparse.notes();
    Tensor<float, 3> dense_output({spec.heads, tokens, spec.head_dim});
    const auto attention = [&](const LayerQkv& layer, TensorView<float, 3> o) -> Status {
      MI_CHECK(sparse.run(layer, o));
      if (layer.window > 0) return {};
      const Clock::time_point measuring_start = Clock::now();
      MI_CHECK(dense.run(layer, dense_output.view()));
      measure(layer, {dense_output.view(), dense.lse()}, {o, sparse.lse()}, sparse.stats());
      measuring += seconds_since(measuring_start);
      return {};
    };
    MI_TRY(hidden, model.forward(sample.ids, attention, progress));
  }
  verdict.seconds_dense = reference.seconds;
  verdict.seconds_sparse = seconds_since(start) - measuring;
  MI_CHECK(compare_logits(model, sample, reference.hidden, hidden, options.threads, verdict));
  return verdict;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "verify: not enough memory for a sample of this length");
}

runtime::HeldOut summarize(std::span<const SampleVerdict> verdicts) {
  runtime::HeldOut held_out;
  const auto count = static_cast<double>(verdicts.size());
  for (const SampleVerdict& verdict : verdicts) {
    held_out.recall_mean += verdict.recall / count;
    held_out.output_error += verdict.output_error / count;
    held_out.logit_kl += verdict.kl / count;
    held_out.top1_agreement += verdict.top1 / count;
    double& achieved = held_out.achieved[verdict.length];
    achieved = std::max(achieved, verdict.share);
  }
  return held_out;
}

Result<Verified> verify(const Model& model, const runtime::HeadConfig& config,
                        std::span<const Sample> samples, const ComputeOptions& options,
                        const ProgressFn& progress, bool pictures) {
  Verified verified;
  const auto longest =
      std::max_element(samples.begin(), samples.end(),
                       [](const Sample& a, const Sample& b) { return a.length() < b.length(); });
  double total = 0;
  for (const Sample& sample : samples) total += static_cast<double>(sample.length());
  double done = 0;
  for (const Sample& sample : samples) {
    const auto share_of = [&](double passes) {
      return [&, passes](int layers, int of) {
        if (progress)
          progress("certify", (done + static_cast<double>(sample.length()) *
                                          (passes + static_cast<double>(layers) / of) / 2) /
                                  total);
      };
    };
    std::optional<PictureTaker> taker;
    if (pictures && &sample == &*longest) {
      MI_TRY(taker, PictureTaker::make(config, sample, options));
    }
    MI_TRY(const DenseReference dense, dense_reference(model, sample, options, share_of(0)));
    MI_TRY(const SampleVerdict verdict, verify_sample(model, config, sample, dense, options,
                                                      share_of(1), taker ? &*taker : nullptr));
    verified.verdicts.push_back(verdict);
    if (taker) verified.pictures = taker->take();
    done += static_cast<double>(sample.length());
  }
  return verified;
}

}  // namespace mi::search
