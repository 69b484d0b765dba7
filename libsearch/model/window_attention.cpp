#include "libsearch/model/window_attention.h"

#include <algorithm>
#include <limits>

#include <Eigen/Core>

#include "libsearch/model/row_ops.h"

namespace mi::search {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kRows = 64;  // whose windows are computed together

template <class T>
Matrix rows_of(const TensorView<const T, 2>& all, int64_t begin, int64_t end) {
  Matrix rows(end - begin, all.extent[1]);
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(all[i].data, all.extent[1], rows.row(i - begin).data());
  } else {
    widen(all[begin].data, all.stride[0], end - begin, all.extent[1], rows.data());
  }
  return rows;
}

// Rows [begin, end) of one head.
template <class T>
void one_block(const TensorView<const T, 2>& q, const TensorView<const T, 2>& k,
               const TensorView<const T, 2>& v, int64_t window, float scale, float softcap,
               int64_t begin, int64_t end, TensorView<T, 2> o) {
  const int64_t offset = k.extent[0] - q.extent[0];
  const int64_t first = std::max<int64_t>(0, begin + offset - window + 1);
  const int64_t keys_end = end + offset;
  Matrix s = scale * rows_of(q, begin, end) * rows_of(k, first, keys_end).transpose();
  if (softcap > 0) s = softcap * (s.array() / softcap).tanh();
  for (int64_t i = begin; i < end; ++i) {
    auto row = s.row(i - begin);
    const int64_t own = std::max<int64_t>(0, i + offset - window + 1) - first;
    const int64_t last = i + offset - first;
    auto seen = row.segment(own, last + 1 - own).array();
    seen = (seen - seen.maxCoeff()).exp();
    seen /= seen.sum();
    row.head(own).setZero();
    row.tail(row.size() - last - 1).setZero();
  }
  const Matrix out = s * rows_of(v, first, keys_end);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t x = 0; x < out.cols(); ++x) store(out(i - begin, x), o[i][x]);
}

}  // namespace

template <class T>
void window_attention(const BasicLayerQkv<T>& layer, double scale, double softcap, int threads,
                      TensorView<T, 3> o) {
  const int64_t heads = layer.q.extent[0];
  const int64_t tokens = layer.q.extent[1];
  const int64_t group = heads / layer.k.extent[0];
  const int64_t blocks = (tokens + kRows - 1) / kRows;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t unit = 0; unit < heads * blocks; ++unit) {
    const int64_t h = unit / blocks;
    const int64_t begin = unit % blocks * kRows;
    one_block<T>(layer.q[h], layer.k[h / group], layer.v[h / group], layer.window,
                 static_cast<float>(scale), static_cast<float>(softcap), begin,
                 std::min(tokens, begin + kRows), o[h]);
  }
}

template void window_attention(const BasicLayerQkv<float>&, double, double, int,
                               TensorView<float, 3>);
template void window_attention(const BasicLayerQkv<bf16>&, double, double, int,
                               TensorView<bf16, 3>);

}  // namespace mi::search
