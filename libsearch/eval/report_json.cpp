#include <cmath>

#include <nlohmann/json.hpp>

#include "libsearch/eval/report.h"
#include "libsearch/eval/summary.h"

namespace mi::search {
namespace {

using OrderedJson = nlohmann::ordered_json;

// A bound that one value alone does not have is null.
OrderedJson json(const Interval& interval) {
  OrderedJson bounds = OrderedJson::array({nullptr, nullptr});
  if (std::isfinite(interval.low)) bounds[0] = interval.low;
  if (std::isfinite(interval.high)) bounds[1] = interval.high;
  return {{"value", interval.value}, {"interval", std::move(bounds)}};
}

OrderedJson json(const CostSummary& cost) {
  return {{"dense_seconds", cost.dense_seconds},
          {"sparse_seconds", cost.sparse_seconds},
          {"speed_up", cost.speed_up},
          {"attention_speed_up", cost.attention_speed_up},
          {"executed", cost.share}};
}

OrderedJson json(const PositionSummary& at) {
  return {{"begin", at.begin},
          {"end", at.end},
          {"dense", at.dense_perplexity},
          {"sparse", at.sparse_perplexity},
          {"change", json(at.change)},
          {"verdict", to_string(at.verdict)}};
}

OrderedJson json(const RightSummary& right) {
  return {{"dense", right.dense},
          {"sparse", right.sparse},
          {"difference", json(right.difference)},
          {"verdict", to_string(right.verdict)}};
}

OrderedJson json(const Answer& answer, bool decoded) {
  OrderedJson out = {{"right", answer.right},
                     {"tokens_right", answer.tokens_right},
                     {"logp", answer.logp},
                     {"seconds", answer.cost.seconds},
                     {"executed", answer.cost.share}};
  if (decoded) {
    out["decoded"] = answer.decoded;
    out["decoded_right"] = answer.decoded_right;
  }
  return out;
}

OrderedJson json(const CellResult& cell, bool decoded) {
  const CellSummary summary = summarize(cell);
  OrderedJson out = {{"task", cell.task},
                     {"tokens", cell.length},
                     {"questions", summary.questions},
                     {"cut", summary.cut},
                     {"right", json(summary.right)}};
  if (decoded) out["decoded"] = json(summary.decoded);
  out["tokens_right"] = {{"dense", summary.dense_tokens}, {"sparse", summary.sparse_tokens}};
  out["logp"] = {{"dense", summary.dense_logp},
                 {"sparse", summary.sparse_logp},
                 {"difference", json(summary.logp_difference)}};
  out["prefill"] = json(summary.cost);
  const auto depths = by_depth(cell);
  for (size_t i = 0; i < depths.size(); ++i)
    out["by_depth"].push_back({{"depth", depth_at(static_cast<int64_t>(i), std::ssize(depths))},
                               {"questions", depths[i].questions},
                               {"dense", depths[i].dense},
                               {"sparse", depths[i].sparse}});
  out["answers"] = OrderedJson::array();
  for (const AnsweredQuestion& question : cell.questions)
    out["answers"].push_back({{"source", question.source},
                              {"tokens", question.tokens},
                              {"answer_tokens", question.answer_tokens},
                              {"dense", json(question.dense, decoded)},
                              {"sparse", json(question.sparse, decoded)}});
  return out;
}

}  // namespace

std::string eval_json(const EvalHeading& heading, const Evaluation& evaluation) {
  const runtime::HeadConfig& config = *heading.config;
  OrderedJson out = {{"config", heading.config_file},
                     {"limit", config.limit.share},
                     {"model", config.model.name},
                     {"context", heading.context},
                     {"precision", heading.element},
                     {"backend", heading.backend},
                     {"threads", heading.threads},
                     {"texts", heading.texts},
                     {"chunk", heading.chunk},
                     {"notes", evaluation.notes},
                     {"perplexity", OrderedJson::array()},
                     {"tasks", OrderedJson::array()}};
  for (const WindowSummary& summary : summarize(evaluation.windows, heading.context)) {
    OrderedJson row = {{"tokens", summary.length},
                       {"windows", summary.windows},
                       {"all", json(summary.all)},
                       {"positions", OrderedJson::array()},
                       {"prefill", json(summary.cost)}};
    for (const PositionSummary& at : summary.positions) row["positions"].push_back(json(at));
    out["perplexity"].push_back(std::move(row));
  }
  for (const CellResult& cell : evaluation.cells)
    out["tasks"].push_back(json(cell, heading.decoded));
  return out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace mi::search
