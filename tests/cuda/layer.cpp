#include "tests/cuda/layer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/cuda/tile_shape.h"
#include "kernels/cuda/work_list.h"
#include "kernels/tensor_view.h"
#include "tests/ideal.h"
#include "tests/support.h"

namespace mi::test::cuda {
namespace {

using kernels::cuda::AttendCall;
using kernels::cuda::Sequence;
using kernels::cuda::Strided;
using kernels::cuda::WorkList;

constexpr uint16_t kPoison = 0xffff;  // a NaN
constexpr int kKinds = 7;             // of selections

// [tokens, heads, dim] in either order, rows 8 elements apart, nothing behind the last one.
template <class T>
struct Tensor {
  AlignedBuffer<T> data;
  std::vector<float> wide;
  int64_t tokens, token_stride, head_stride;

  Tensor(int64_t num_tokens, int heads, int dim, bool tokens_first)
      : tokens(num_tokens),
        token_stride(tokens_first ? int64_t{heads} * (dim + 8) : dim + 8),
        head_stride(tokens_first ? dim + 8 : tokens * (dim + 8)) {
    data.resize(static_cast<size_t>((tokens - 1) * token_stride + (heads - 1) * head_stride + dim));
    std::fill(data.span().begin(), data.span().end(), T{kPoison});
  }
  void randomize(uint64_t seed, float sigma) {
    wide = random_normal(data.size(), seed, sigma);
    for (size_t i = 0; i < wide.size(); ++i) {
      data[i] = narrowed<T>(wide[i]);
      wide[i] = to_float(data[i]);
    }
  }
  // As the kernel sees it, at `seen`.
  template <class U>
  [[nodiscard]] Strided<U> strided(U* seen) const {
    return {seen, token_stride, head_stride};
  }
};

template <class T>
struct SequenceData {
  Tensor<T> q, k, v, o;
  std::vector<float> lse;
  int64_t lse_stride;
  bool with_lse;
  kernels::AttentionHead shape;

  SequenceData(const Layer& layer, int dim, int64_t n_q, int64_t n_kv, uint64_t seed)
      : q(n_q, layer.heads, dim, layer.tokens_first),
        k(n_kv, layer.kv_heads, dim, layer.tokens_first),
        v(n_kv, layer.kv_heads, dim, !layer.tokens_first),
        o(n_q, layer.heads, dim, !layer.tokens_first),
        lse_stride(n_q + 3),
        with_lse(layer.with_lse) {
    q.randomize(seed, layer.sigma);
    k.randomize(seed + 1, layer.sigma);
    v.randomize(seed + 2, 1);
    lse.assign(static_cast<size_t>(layer.heads * lse_stride),
               std::numeric_limits<float>::quiet_NaN());
    shape.n_q = n_q;
    shape.n_kv = n_kv;
    shape.head_dim = dim;
    shape.scale = layer.scale == 0 ? 1 / std::sqrt(static_cast<float>(dim)) : layer.scale;
    shape.softcap = layer.softcap;
  }
  [[nodiscard]] Sequence<T> share(Memory& memory) {
    const auto input = [&](const Tensor<T>& tensor) {
      return tensor.template strided<const T>(memory.input(tensor.data.data(), tensor.data.size()));
    };
    float* const seen_lse = memory.output(lse);
    return {input(q),
            input(k),
            input(v),
            o.template strided<T>(memory.output(o.data.data(), o.data.size())),
            with_lse ? seen_lse : nullptr,
            lse_stride,
            shape.n_q,
            shape.n_kv};
  }
  [[nodiscard]] kernels::AttentionHead head(int h, int kv) const {
    kernels::AttentionHead of = shape;
    of.q = q.wide.data() + h * q.head_stride;
    of.k = k.wide.data() + kv * k.head_stride;
    of.v = v.wide.data() + kv * v.head_stride;
    of.q_stride = q.token_stride;
    of.k_stride = k.token_stride;
    of.v_stride = v.token_stride;
    return of;
  }
};

// By turns: nothing, everything, single keys, runs of any length, both, only the last keys, which
// the block's first rows do not see, and no selection.
std::vector<uint64_t> selection(int kind, int64_t keys, std::mt19937_64& engine) {
  if (kind % kKinds == 6) return {};
  std::vector<uint64_t> words(static_cast<size_t>(kernels::bitmap_words(keys)));
  const auto set = [&](int64_t from, int64_t to) {
    for (int64_t j = std::max<int64_t>(from, 0); j < std::min(to, keys); ++j)
      words[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
  };
  const auto somewhere = [&] {
    return static_cast<int64_t>(engine() % static_cast<uint64_t>(keys));
  };
  if (kind % kKinds == 1) set(0, keys);
  if (kind % kKinds == 2 || kind % kKinds == 4)
    for (int64_t n = 0; n < 3 + keys / 5; ++n) {
      const int64_t j = somewhere();
      set(j, j + 1);
    }
  if (kind % kKinds == 3 || kind % kKinds == 4)
    for (int64_t n = 0; n < 2 + keys / 60; ++n) {
      const int64_t j = somewhere();
      set(j, j + 1 + static_cast<int64_t>(engine() % 40));
    }
  if (kind % kKinds == 5) set(keys - 20, keys);
  return words;
}

struct Block64 {  // a row block and its keys
  size_t sequence;
  int head;
  int64_t block;
  std::vector<uint64_t> words;  // empty: every key
  [[nodiscard]] const uint64_t* keys() const { return words.empty() ? nullptr : words.data(); }
};

// Worst error of o and lse as a share of the allowed; infinite where one is inf or nan alone.
template <class T>
double worst_error(SequenceData<T>& data, const Block64& of, int kv_head) {
  const kernels::AttentionHead head = data.head(of.head, kv_head);
  const Ideal ideal = ideal_of<T>(head, of.block, of.keys());
  // |v| < 6; scores err by ulps of f32, and so does lse.
  const double allowed = 2 * ideal.error + 6 * lse_tolerance(ideal) * (ideal.error > 0 ? 1 : 0);
  double worst = 0;
  const auto count = [&](double got, double want, double tolerance) {
    if (got == want) return;
    const double share = std::abs(got - want) / std::max(tolerance, 1e-300);
    worst = std::isfinite(share) ? std::max(worst, share) : HUGE_VAL;
  };
  for (int r = 0; r < head.rows(of.block); ++r) {
    const int64_t row = head.first_row(of.block) + r;
    const T* o = data.o.data.data() + row * data.o.token_stride + of.head * data.o.head_stride;
    for (int x = 0; x < head.head_dim; ++x)
      count(static_cast<double>(to_float(o[x])),
            ideal.o[static_cast<size_t>(r * head.head_dim + x)], allowed);
    if (!data.with_lse) continue;
    count(static_cast<double>(data.lse[static_cast<size_t>(of.head * data.lse_stride + row)]),
          ideal.lse[static_cast<size_t>(r)], lse_tolerance(ideal));
  }
  return worst;
}

// Elements that no output covers must still be poison.
template <class T>
int64_t stray_writes(SequenceData<T>& data, const Layer& layer) {
  AlignedBuffer<T> o = std::move(data.o.data);
  std::vector<float> lse = data.lse;
  for (int h = 0; h < layer.heads; ++h)
    for (int64_t row = 0; row < data.shape.n_q; ++row) {
      T* at = o.data() + row * data.o.token_stride + h * data.o.head_stride;
      std::fill(at, at + data.shape.head_dim, T{kPoison});
      lse[static_cast<size_t>(h * data.lse_stride + row)] = std::nanf("");
    }
  return std::count_if(o.span().begin(), o.span().end(), [](T x) { return x.bits != kPoison; }) +
         std::count_if(lse.begin(), lse.end(), [](float x) { return !std::isnan(x); });
}

}  // namespace

template <class T>
std::string check_layer(const Kernel<T>& kernel, const Layer& layer, uint64_t seed, double* worst) {
  std::mt19937_64 engine(seed);
  std::vector<SequenceData<T>> data;
  std::vector<Block64> blocks;
  WorkList work;
  int kind = static_cast<int>(seed);
  for (const auto& [n_q, n_kv] : layer.sequences) {
    const size_t s = data.size();
    data.emplace_back(layer, kernel.head_dim, n_q, n_kv, seed + 10 * s);
    for (int h = 0; h < layer.heads; ++h)
      for (int64_t m = 0; m < data[s].shape.row_blocks(); ++m) {
        const int64_t end = data[s].shape.keys_end(m);
        blocks.push_back({s, h, m, selection(layer.sparse ? kind++ : 6, end, engine)});
        work.add(static_cast<int>(s), h, m, end, blocks.back().keys());
      }
  }
  work.sort();

  const auto launch = kernel.launch();
  std::vector<Sequence<T>> sequences;
  for (SequenceData<T>& of : data) sequences.push_back(of.share(*launch));
  const AttendCall<T> call{launch->input(sequences),
                           launch->input(work.items()),
                           launch->input(work.selections()),
                           launch->input(work.runs()),
                           launch->input(work.columns()),
                           layer.heads / layer.kv_heads,
                           data[0].shape.scale,
                           layer.softcap};
  const Ran ran = launch->run(call, static_cast<int64_t>(work.items().size()));

  std::string wrong = ran.wrong;
  int64_t tiles = 0;
  for (size_t i = 0; i < work.items().size(); ++i)
    tiles += (work.keys(i) + kernel.tile_keys - 1) / kernel.tile_keys;
  // Two products of 64 rows by the tile's keys by head_dim, 16 x 8 x 16 at a time.
  const int64_t products = tiles * 2 * 64 * kernel.tile_keys * kernel.head_dim / (16 * 8 * 16);
  if (ran.products && *ran.products != products)
    wrong += "products: got " + std::to_string(*ran.products) + ", expected " +
             std::to_string(products) + "\n";
  for (const Block64& of : blocks) {
    const double error =
        worst_error(data[of.sequence], of, of.head / (layer.heads / layer.kv_heads));
    *worst = std::max(*worst, error);
    if (error > 1)
      wrong += "sequence " + std::to_string(of.sequence) + " head " + std::to_string(of.head) +
               " block " + std::to_string(of.block) + ": error " + std::to_string(error) +
               " of the allowed\n";
  }
  for (SequenceData<T>& of : data)
    if (const int64_t stray = stray_writes(of, layer); stray != 0)
      wrong += "written beside the outputs: " + std::to_string(stray) + " elements\n";
  return wrong;
}

template std::string check_layer(const Kernel<bf16>&, const Layer&, uint64_t, double*);
template std::string check_layer(const Kernel<f16>&, const Layer&, uint64_t, double*);

}  // namespace mi::test::cuda
