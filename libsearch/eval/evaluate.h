// The same prompts through the model twice, every head dense and by a head-config, in turns. The
// answers are scored teacher-forced from one prefill each: how probable they are, and whether every
// token of them is the model's first choice; on request also by greedy decoding. Questions one
// after the other that begin with the same tokens share one prefill of those.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "libsearch/eval/tasks.h"
#include "libsearch/search/score_table.h"

namespace mi::search {

// One prefill of the whole model, without the product with the vocabulary. Of questions that share
// one, each has its whole cost.
struct PrefillCost {
  double seconds = 0;
  double attention_seconds = 0;  // of those
  double share = 0;              // executed cost of attention, mean over heads and layers
};
struct Answer {
  bool right = false;        // every token is the preferred one
  int64_t tokens_right = 0;  // that are
  double logp = 0;           // of the whole answer, nats
  bool decoded_right = false;
  std::string decoded;  // what greedy decoding wrote; empty when not asked for
  PrefillCost cost;
};
struct AnsweredQuestion {
  std::string source;
  int64_t tokens = 0;  // of the prompt with its answer
  int64_t answer_tokens = 0;
  int depth = -1;
  bool cut = false;
  Answer dense, sparse;
};
struct CellResult {
  std::string task;
  int64_t length = 0;
  std::vector<AnsweredQuestion> questions;
};

// One window of text: the loss of every token but the first.
struct WindowResult {
  std::string source;
  int64_t length = 0;
  std::vector<float> dense_nll, sparse_nll;  // [length - 1], of tokens 1, 2, ...
  PrefillCost dense, sparse;
};

struct Evaluation {
  std::vector<WindowResult> windows;
  std::vector<CellResult> cells;
  std::vector<std::string> notes;  // of the plans, each once
};

struct EvalOptions {
  ComputeOptions compute;  // element: of both prefills
  bool decode = false;
};

[[nodiscard]] Result<Evaluation> evaluate(const Model& model, const runtime::HeadConfig& config,
                                          const std::vector<Sample>& windows,
                                          const std::vector<Cell>& cells,
                                          const EvalOptions& options, const ProgressFn& progress);

}  // namespace mi::search
