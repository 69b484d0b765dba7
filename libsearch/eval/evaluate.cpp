#include "libsearch/eval/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <Eigen/Core>

#include "libsearch/search/clock.h"
#include "libsearch/search/decode.h"
#include "libsearch/search/kv_cache.h"
#include "libsearch/search/planned_attention.h"

namespace mi::search {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr int64_t kLogitRows = 128;
// An answer is decoded with room for a few words before it.
constexpr int64_t kMoreTokens = 12;

struct Pass {
  Tensor<float, 2> hidden;
  PrefillCost cost;
};

// One of the two: a config with its plan for the last length asked for. Planning is done once per
// length and not timed, as an engine would.
class Contestant {
 public:
  Contestant(const Model& model, runtime::HeadConfig config, const ComputeOptions& compute)
      : model_(model), config_(std::move(config)), compute_(compute) {}

  [[nodiscard]] const runtime::HeadConfig& config() const { return config_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return plan_->notes(); }

  // `more`: tokens that may follow by ask(); 0 where none do.
  [[nodiscard]] Result<Pass> prefill(std::span<const int32_t> ids, const LayerProgressFn& progress,
                                     int64_t more = 0) {
    if (!plan_ || length_ != std::ssize(ids)) {
      plan_.reset();  // before the memory of the next one is taken
      MI_TRY(plan_, PlannedAttention::make(config_, std::ssize(ids), compute_, compute_.element));
      length_ = std::ssize(ids);
    }
    cache_.emplace<std::monostate>();
    const auto keep = [&](auto zero) {
      if (more > 0) cache_.emplace<KvCache<decltype(zero)>>(model_.spec(), length_ + more);
    };
    if (compute_.element == runtime::Element::bf16) {
      keep(bf16{});
      return run<bf16>(ids, *plan_, 0, progress);
    }
    keep(float{});
    return run<float>(ids, *plan_, 0, progress);
  }

  // What follows the prompt of the last prefill, in place of what was asked before.
  [[nodiscard]] Result<Tensor<float, 2>> ask(std::span<const int32_t> ids) {
    MI_TRY(PlannedAttention plan,
           PlannedAttention::make(config_, std::ssize(ids), compute_, compute_.element,
                                  length_ + std::ssize(ids)));
    MI_TRY(Pass pass, compute_.element == runtime::Element::bf16
                          ? run<bf16>(ids, plan, length_, {})
                          : run<float>(ids, plan, length_, {}));
    return std::move(pass.hidden);
  }

 private:
  template <class T>
  [[nodiscard]] Result<Pass> run(std::span<const int32_t> ids, PlannedAttention& plan, int64_t at,
                                 const LayerProgressFn& progress) {
    const ModelSpec& spec = model_.spec();
    auto* cache = std::get_if<KvCache<T>>(&cache_);
    Pass pass;
    const BasicAttentionFn<T> attend = [&](const BasicLayerQkv<T>& layer,
                                           TensorView<T, 3> o) -> Status {
      const BasicLayerQkv<T> all = cache == nullptr ? layer : cache->add(layer, at);
      const Clock::time_point start = Clock::now();
      MI_CHECK(plan.run(all, o));
      pass.cost.attention_seconds += seconds_since(start);
      for (const runtime::HeadStats& head : plan.stats())
        pass.cost.share += head.share / spec.heads / spec.layers;
      return {};
    };
    const Clock::time_point start = Clock::now();
    MI_TRY(pass.hidden, model_.forward(ids, attend, progress, at));
    pass.cost.seconds = seconds_since(start);
    return pass;
  }

  const Model& model_;
  runtime::HeadConfig config_;
  ComputeOptions compute_;
  std::optional<PlannedAttention> plan_;
  int64_t length_ = 0;  // of the last prefill
  std::variant<std::monostate, KvCache<float>, KvCache<bf16>> cache_;
};

struct TokenScore {
  double logp = 0;
  bool first_choice = false;
};

class Evaluator {
 public:
  // progress: how much of one prompt, through both, is done.
  Evaluator(const Model& model, const runtime::HeadConfig& config, const EvalOptions& options,
            std::function<void(double)> progress)
      : model_(model),
        options_(options),
        progress_(std::move(progress)),
        contestants_{Contestant(model, dense_config(model.spec()), options.compute),
                     Contestant(model, config, options.compute)} {}

  [[nodiscard]] Result<WindowResult> read(const Sample& window) {
    WindowResult result{window.source, window.length(), {}, {}, {}, {}};
    MI_CHECK(in_turns([&](Contestant& contestant, bool sparse) -> Status {
      MI_TRY(const Pass pass, contestant.prefill(window.ids, layer_done_));
      MI_TRY(const auto scores, score(pass.hidden, 0, window.ids, 1, window.length()));
      auto& nll = sparse ? result.sparse_nll : result.dense_nll;
      for (const TokenScore& token : scores) nll.push_back(static_cast<float>(-token.logp));
      (sparse ? result.sparse : result.dense) = pass.cost;
      return {};
    }));
    return result;
  }

  // Of questions that begin with the same tokens: `shared` of them are prefilled once, the rest of
  // each question follows, as in an engine that caches prefixes. One alone is prefilled whole.
  [[nodiscard]] Result<std::vector<AnsweredQuestion>> answer(std::span<const Question> questions,
                                                             int64_t shared) {
    std::vector<AnsweredQuestion> results;
    int64_t longest = 0;
    for (const Question& question : questions) {
      const Sample& sample = question.sample;
      results.push_back({sample.source,
                         sample.length(),
                         sample.answer_end - sample.answer_begin,
                         question.depth,
                         question.cut,
                         {},
                         {}});
      longest = std::max(longest, sample.length());
    }
    const std::span<const int32_t> ids = questions.front().sample.ids;
    const auto answer_all = [&](Contestant& contestant, bool sparse) -> Status {
      MI_TRY(Pass pass, contestant.prefill(ids.first(static_cast<size_t>(shared)), layer_done_,
                                           longest - shared));
      for (size_t i = 0; i < questions.size(); ++i) {
        const Sample& sample = questions[i].sample;
        int64_t first = 0;  // token whose hidden state is the first
        if (shared < sample.length()) {
          MI_TRY(pass.hidden,
                 contestant.ask(std::span(sample.ids).subspan(static_cast<size_t>(shared))));
          first = shared;
        }
        Answer& out = sparse ? results[i].sparse : results[i].dense;
        out.cost = pass.cost;
        MI_TRY(const auto scores,
               score(pass.hidden, first, sample.ids, sample.answer_begin, sample.answer_end));
        for (const TokenScore& token : scores) {
          out.logp += token.logp;
          out.tokens_right += token.first_choice ? 1 : 0;
        }
        out.right = out.tokens_right == results[i].answer_tokens;
        if (options_.decode) MI_CHECK(decode(contestant.config(), questions[i], out));
      }
      return {};
    };
    MI_CHECK(in_turns(answer_all));
    return results;
  }

  void take_notes(std::vector<std::string>& notes) const {
    for (const std::string& note : contestants_[1].notes())
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
  }

 private:
  // Both, in an order that changes every time: neither is always the one that runs first.
  template <class Body>
  [[nodiscard]] Status in_turns(const Body& body) {
    const bool sparse_first = std::exchange(sparse_first_, !sparse_first_);
    passes_ = 0;
    MI_CHECK(body(contestants_[sparse_first ? 1 : 0], sparse_first));
    passes_ = 1;
    return body(contestants_[sparse_first ? 0 : 1], !sparse_first);
  }

  // How tokens [begin, end) are predicted: by the row before each. Row 0 of hidden is token
  // `first_row`'s, before `begin`.
  [[nodiscard]] Result<std::vector<TokenScore>> score(const Tensor<float, 2>& hidden,
                                                      int64_t first_row,
                                                      std::span<const int32_t> ids, int64_t begin,
                                                      int64_t end) const {
    const int64_t vocab = model_.spec().vocab;
    Matrix logits(std::min(kLogitRows, end - begin), vocab);
    std::vector<TokenScore> scores(static_cast<size_t>(end - begin));
    for (int64_t first = begin; first < end; first += kLogitRows) {
      const int64_t rows = std::min(kLogitRows, end - first);
      MI_CHECK(model_.logits({hidden.view()[first - 1 - first_row].data, {rows, hidden.extent(1)}},
                             {logits.data(), {rows, vocab}}));
#pragma omp parallel for num_threads(options_.compute.threads)
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t token = ids[static_cast<size_t>(first + r)];
        Eigen::Index best = 0;
        const float top = logits.row(r).maxCoeff(&best);
        const float sum = (logits.row(r).array() - top).exp().sum();
        scores[static_cast<size_t>(first - begin + r)] = {
            static_cast<double>(logits(r, token) - top - std::log(sum)), best == token};
      }
    }
    return scores;
  }

  [[nodiscard]] Status decode(const runtime::HeadConfig& config, const Question& question,
                              Answer& out) const {
    const Sample& sample = question.sample;
    const Tokenizer& tokenizer = *model_.tokenizer();
    Status failed;
    // Until the answer is there with what ends it, or the first line with a word is over.
    const auto is_done = [&](std::span<const int32_t> generated) {
      auto text = tokenizer.decode(generated);
      if (!text) {
        failed = text.error();
        return true;
      }
      out.decoded = std::move(*text);
      const auto word = std::find_if(out.decoded.begin(), out.decoded.end(), is_word);
      if (word == out.decoded.end()) return false;
      const auto begin = static_cast<size_t>(word - out.decoded.begin());
      if (const size_t end = out.decoded.find('\n', begin); end != std::string::npos) {
        out.decoded.resize(end);
        return true;
      }
      return contains_answer(std::string_view(out.decoded).substr(0, out.decoded.size() - 1),
                             question.accepted);
    };
    const auto prompt = std::span(sample.ids).first(static_cast<size_t>(sample.answer_begin));
    MI_TRY(const auto generated,
           decode_greedily(model_, config, prompt,
                           sample.answer_end - sample.answer_begin + kMoreTokens, options_.compute,
                           is_done));
    MI_CHECK(failed);
    out.decoded_right = contains_answer(out.decoded, question.accepted);
    return {};
  }

  const Model& model_;
  const EvalOptions& options_;
  std::function<void(double)> progress_;
  std::array<Contestant, 2> contestants_;  // dense, sparse
  int passes_ = 0;                         // done of this prompt
  LayerProgressFn layer_done_ = [this](int layers, int of) {
    progress_((passes_ + static_cast<double>(layers) / of) / 2);
  };
  bool sparse_first_ = false;
};

// Time of both passes, in arbitrary units: linear layers by the token, attention by its square.
double work(int64_t tokens, bool all_logits) {
  const auto n = static_cast<double>(tokens);
  return n * (1 + n / 16384) + (all_logits ? n : 0);
}

// Questions one after the other that share most of their prompts.
struct Group {
  std::span<const Question> questions;
  int64_t shared = 0;  // tokens prefilled at once; of one question alone all
};
Group first_group(std::span<const Question> questions) {
  const Sample& first = questions.front().sample;
  size_t count = 1;
  int64_t shared = first.length();
  for (const Question& question : questions.subspan(1)) {
    const Sample& sample = question.sample;
    const auto differs =
        std::mismatch(first.ids.begin(), first.ids.end(), sample.ids.begin(), sample.ids.end());
    // What predicts an answer's first token is no part of what is shared.
    const int64_t same = std::min({differs.first - first.ids.begin(), shared,
                                   first.answer_begin - 1, sample.answer_begin - 1});
    if (4 * same < 3 * std::max(first.length(), sample.length())) break;
    shared = same;
    ++count;
  }
  return {questions.first(count), shared};
}

Result<std::vector<Group>> groups_of(const Cell& cell) {
  for (const Question& question : cell.questions) {
    const Sample& sample = question.sample;
    if (sample.answer_begin < 1 || sample.answer_begin >= sample.answer_end)
      return fail(Code::invalid_argument, sample.source + ": has no answer to judge");
  }
  std::vector<Group> groups;
  for (std::span<const Question> left = cell.questions; !left.empty();) {
    groups.push_back(first_group(left));
    left = left.subspan(groups.back().questions.size());
  }
  return groups;
}

double work(const Group& group, bool decode) {
  double units = work(group.shared, false);
  if (decode)
    for (const Question& question : group.questions) units += work(question.sample.length(), false);
  return units;
}

}  // namespace

Result<Evaluation> evaluate(const Model& model, const runtime::HeadConfig& config,
                            const std::vector<Sample>& windows, const std::vector<Cell>& cells,
                            const EvalOptions& options, const ProgressFn& progress) try {
  if (options.decode && model.tokenizer() == nullptr)
    return fail(Code::unsupported, model.tokenizer_status().what);
  double total = 0;
  double done = 0;
  for (const Sample& window : windows) total += work(window.length(), true);
  std::vector<std::vector<Group>> groups;
  for (const Cell& cell : cells) {
    MI_TRY(groups.emplace_back(), groups_of(cell));
    for (const Group& group : groups.back()) total += work(group, options.decode);
  }
  double current = 0;  // of the prompt at hand
  const auto show = [&](double part) {
    if (progress) progress("eval", std::min(1.0, (done + part * current) / total));
  };
  const auto begin = [&](double units) {
    done += current;
    current = units;
    show(0);
  };
  // What is left of a prompt after its prefills (logits, decoding) is not watched.
  Evaluator evaluator(model, config, options, [&](double part) { show(0.8 * part); });
  Evaluation evaluation;
  for (const Sample& window : windows) {
    begin(work(window.length(), true));
    MI_TRY(auto result, evaluator.read(window));
    evaluation.windows.push_back(std::move(result));
    evaluator.take_notes(evaluation.notes);
  }
  for (size_t i = 0; i < cells.size(); ++i) {
    CellResult result{cells[i].task, cells[i].length, {}};
    for (const Group& group : groups[i]) {
      begin(work(group, options.decode));
      MI_TRY(auto answered, evaluator.answer(group.questions, group.shared));
      std::move(answered.begin(), answered.end(), std::back_inserter(result.questions));
      evaluator.take_notes(evaluation.notes);
    }
    evaluation.cells.push_back(std::move(result));
  }
  if (total > 0) begin(0);
  return evaluation;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "mi-eval: not enough memory for a prompt of this length");
}

}  // namespace mi::search
