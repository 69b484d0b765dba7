// Exact recall and output error of every candidate of every head of a layer, in O(tokens) memory:
// one more pass over q and k with the dense log-sum-exp, no N x N matrix.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/tensor_view.h"
#include "libsearch/search/candidates.h"

namespace mi::search {

struct CandidateScore {
  double recall = 0;          // mean over rows of the attention mass kept
  double square = 0;          // mean over rows of the squared lost mass; 0 without extras
  double recall_p05 = 0;      // 5th percentile over row blocks of their mean recall
  double recall_min = 0;      // the worst row block
  double recall_last = 0;     // the last row block, where the answer is written
  double error = 0;           // mean over sampled rows of ||(o - o~) W_O||^2 / ||residual||^2
  double share = 0;           // cost as a share of dense
  double tiles = 0;           // executed
  double oracle_lost = 0;     // lost mass of the true column mass as estimate at the same cost
  double uniform_recall = 0;  // recall that uniform attention would have under the same mask
};

// What a report file keeps of a score, as f32: that is all the precision that scores have. Shares
// follow from tiles. The last is there with `extras` only.
struct ScoreField {
  std::string_view name;
  double CandidateScore::*value;
};
inline constexpr std::array kScoreFields = {
    ScoreField{"recall", &CandidateScore::recall},
    ScoreField{"recall_p05", &CandidateScore::recall_p05},
    ScoreField{"recall_min", &CandidateScore::recall_min},
    ScoreField{"recall_last", &CandidateScore::recall_last},
    ScoreField{"error", &CandidateScore::error},
    ScoreField{"tiles", &CandidateScore::tiles},
    ScoreField{"oracle_lost", &CandidateScore::oracle_lost},
    ScoreField{"uniform_recall", &CandidateScore::uniform_recall},
    ScoreField{"square", &CandidateScore::square},
};

// Attention of one layer as the dense pass computed it.
struct LayerAttention {
  TensorView<const float, 3> q;      // [heads, tokens, head_dim]
  TensorView<const float, 3> k;      // [kv_heads, tokens, head_dim]
  TensorView<const float, 3> v;      // [kv_heads, tokens, head_dim]
  TensorView<const bf16, 3> k_bf16;  // k and v of a bf16 pass; data null: f32
  TensorView<const bf16, 3> v_bf16;
  TensorView<const float, 2> lse;       // [heads, tokens] of the keys
  std::span<const float> sinks;         // [heads], or none: as BasicLayerQkv's
  TensorView<const float, 2> residual;  // [tokens, hidden]; data null: error is relative to o
  TensorView<const float, 2> wo;        // [hidden, heads * head_dim]; data null: identity
  float scale = 0;
  float softcap = 0;
};

struct ScoreShape {
  int64_t tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t last = 64;  // rows at the end that run dense under every candidate
  int threads = 1;
  // Masses of every row, not of all rows together: twice the time.
  bool extras = true;
};

// Scores layers of one shape; holds the memory for it. Constructing and scoring throw
// std::bad_alloc only.
class LayerScorer {
 public:
  LayerScorer(const CandidateSpace& space, const ScoreShape& shape,
              const kernels::Backend& backend);
  ~LayerScorer();
  // [heads][candidates], dense last.
  [[nodiscard]] std::vector<std::vector<CandidateScore>> score(const LayerAttention& layer);

 private:
  struct HeadSums;
  struct ThreadMemory;
  void score_group(const LayerAttention& layer, int head, int64_t begin, int64_t end,
                   const float* gram, ThreadMemory& memory, HeadSums& sums) const;
  void add_baselines(const kernels::AttentionHead& head, int64_t m, ThreadMemory& memory,
                     std::span<const int32_t> counts, const float* rest, HeadSums& sums) const;
  void finish(const HeadSums& sums, std::vector<CandidateScore>& scores) const;

  const CandidateSpace& space_;
  ScoreShape shape_;
  const kernels::Backend& backend_;
  struct Data;
  std::unique_ptr<Data> data_;
};

}  // namespace mi::search
