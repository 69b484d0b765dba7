#include "kernels/reference.h"

#include <cmath>
#include <limits>

#include <Eigen/Core>

namespace mi::kernels {
namespace {

using Matrix = Eigen::MatrixXd;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Matrix rows_of(const float* data, int64_t rows, int64_t stride, int dim) {
  return Map(data, rows, dim, Eigen::OuterStride<>(stride)).cast<double>();
}

Matrix scores(const Matrix& q, const Matrix& k, double scale, double softcap) {
  Matrix s = scale * (q * k.transpose());
  if (softcap > 0) s = softcap * (s / softcap).array().tanh();
  return s;
}

// Scores of a row block over its visible keys, -inf where causality hides a key.
Matrix block_scores(const AttentionHead& head, int64_t block) {
  const int64_t first = head.first_row(block);
  const int64_t end = head.keys_end(block);
  const Matrix q =
      rows_of(head.q + first * head.q_stride, head.rows(block), head.q_stride, head.head_dim);
  const Matrix k = rows_of(head.k, end, head.k_stride, head.head_dim);
  Matrix s = scores(q, k, head.scale, head.softcap);
  for (int64_t r = 0; r < s.rows(); ++r)
    for (int64_t j = first + r + head.offset() + 1; j < end; ++j) s(r, j) = -kInfinity;
  return s;
}

class ReferenceBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "reference"; }
  [[nodiscard]] Status available() const override { return {}; }
  [[nodiscard]] size_t scratch_bytes(int) const override { return 0; }
  [[nodiscard]] size_t score_scratch_bytes(int, int64_t, int) const override { return 0; }

  int64_t attend(const AttentionHead& head, int64_t block, const uint64_t* keys, float* o,
                 int64_t o_stride, float* lse, void*) const override {
    const int64_t end = head.keys_end(block);
    Matrix s = block_scores(head, block);
    int64_t selected = end;
    if (keys != nullptr) {
      selected = 0;
      for (int64_t j = 0; j < end; ++j) {
        const bool taken = (keys[j / 64] >> (j % 64) & 1) != 0;
        selected += taken ? 1 : 0;
        if (!taken) s.col(j).setConstant(-kInfinity);
      }
    }
    const Matrix v = rows_of(head.v, end, head.v_stride, head.head_dim);
    for (int64_t r = 0; r < s.rows(); ++r) {
      const double top = s.row(r).maxCoeff();
      const bool empty = top == -kInfinity;
      Eigen::RowVectorXd p = (s.row(r).array() - (empty ? 0 : top)).exp();
      const double sum = p.sum();
      const Eigen::RowVectorXd out = p * v / (empty ? 1 : sum);
      for (int k = 0; k < head.head_dim; ++k) o[r * o_stride + k] = static_cast<float>(out(k));
      if (lse != nullptr) lse[r] = static_cast<float>(empty ? -kInfinity : top + std::log(sum));
    }
    return (selected + kKeyTile - 1) / kKeyTile;
  }

  void probabilities(const ProbabilityRows& rows, void*) const override {
    int64_t end = 0;
    for (int r = 0; r < rows.rows; ++r) end = std::max(end, rows.visible[r]);
    const Matrix s =
        scores(rows_of(rows.q, rows.rows, rows.q_stride, rows.dim),
               rows_of(rows.k, end, rows.k_stride, rows.dim), rows.scale, rows.softcap);
    for (int r = 0; r < rows.rows; ++r) {
      const int64_t visible = rows.visible[r];
      const double top = s.row(r).head(visible).maxCoeff();
      const double sum = (s.row(r).head(visible).array() - top).exp().sum();
      float* p = rows.p + r * rows.p_stride;
      for (int64_t j = 0; j < end; ++j)
        p[j] = j < visible ? static_cast<float>(std::exp(s(r, j) - top) / sum) : 0;
    }
  }

  void score(const ScoreBlock& block, void*) const override {
    const AttentionHead& head = block.head;
    const int64_t end = head.keys_end(block.block);
    Matrix p = block_scores(head, block.block);
    for (int64_t r = 0; r < p.rows(); ++r)
      p.row(r) = (p.row(r).array() - static_cast<double>(block.lse[r])).exp();
    for (int64_t j = 0; j < end; ++j) block.column_mass[j] = static_cast<float>(p.col(j).sum());
    const Matrix v = rows_of(head.v, end, head.v_stride, head.head_dim);
    Eigen::VectorXd rest = Eigen::VectorXd::Zero(p.rows());
    for (int64_t r = 0; block.rest != nullptr && r < p.rows(); ++r)
      rest[r] = static_cast<double>(block.rest[r]);
    const Matrix dense = (p.rowwise().sum() + rest).asDiagonal().inverse() * (p * v);
    for (int64_t r = 0; block.gram != nullptr && r < p.rows(); ++r)
      block.norm[r] = static_cast<float>(dense.row(r).squaredNorm());
    for (const LevelFamily& family : block.families) {
      for (int level = 0; level < family.levels; ++level) {
        Matrix kept = p;
        for (int64_t j = 0; j < end; ++j)
          if (family.level[j] > level) kept.col(j).setZero();
        for (int64_t r = 0; r < kRowBlock; ++r) {
          const int64_t at = level * kRowBlock + r;
          double mass = 0;
          if (r < p.rows())
            for (int64_t j = 0; j < end; ++j)
              if (family.level[j] == level) mass += p(r, j);
          if (family.mass != nullptr) family.mass[at] = static_cast<float>(mass);
          if (block.gram == nullptr) continue;
          if (r >= p.rows()) {
            family.error[at] = 0;
            continue;
          }
          const double recall = kept.row(r).sum() + rest[r];
          const Eigen::RowVectorXd sparse = kept.row(r) * v / (recall > 0 ? recall : 1);
          const Eigen::RowVectorXd difference = dense.row(r) - sparse;
          const Matrix gram = rows_of(block.gram, head.head_dim, head.head_dim, head.head_dim);
          family.error[at] = static_cast<float>((difference * gram * difference.transpose())(0));
        }
      }
    }
  }
};

}  // namespace

const Backend& reference_backend() {
  static const ReferenceBackend instance;
  return instance;
}

}  // namespace mi::kernels
