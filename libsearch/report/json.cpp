#include <string>

#include <nlohmann/json.hpp>

#include "libsearch/report/text.h"

namespace mi::search {
namespace {

using runtime::HeadConfig;
using runtime::HeadEntry;
using Json = nlohmann::ordered_json;

Json by_length(const std::map<int64_t, double>& values) {
  Json out = Json::object();
  for (const auto& [length, value] : values) out[std::to_string(length)] = value;
  return out;
}

// A number for all lengths, else an object by length: as in the YAML.
void add_parameter(Json& out, const char* name, const runtime::PerLength& values) {
  if (values.empty()) return;
  if (values.size() == 1 && values.begin()->first == 0)
    out[name] = values.begin()->second;
  else
    out[name] = by_length(values);
}

Json head_json(const HeadConfig& config, HeadPlace place) {
  const HeadEntry& entry = entry_at(config, place);
  Json out = {{"layer", place.layer}, {"head", place.head}, {"pattern", to_string(entry.pattern)}};
  if (entry.pattern == runtime::Pattern::block_sparse) {
    out["estimate"] = to_string(entry.estimate);
    if (entry.estimate == runtime::BlockEstimate::antidiagonal) out["stride"] = entry.stride;
  }
  if (entry.sink != 0) out["sink"] = entry.sink;
  add_parameter(out, "local", entry.local);
  add_parameter(out, "density", entry.density);
  add_parameter(out, "share", entry.share);
  add_parameter(out, "vertical", entry.vertical);
  add_parameter(out, "slash", entry.slash);
  add_parameter(out, "blocks", entry.blocks);
  out["recall"] = entry.recall;
  return out;
}

Json layer_json(const HeadConfig& config, int layer) {
  const auto& heads = config.layers[static_cast<size_t>(layer)];
  Json patterns = Json::object();
  double recall = 0;
  for (const HeadEntry& head : heads) {
    Json& count = patterns[std::string(to_string(head.pattern))];
    count = (count.is_null() ? 0 : count.get<int>()) + 1;
    recall += head.recall;
  }
  return {{"layer", layer},
          {"patterns", patterns},
          {"recall", heads.empty() ? 0 : recall / static_cast<double>(heads.size())}};
}

Json summary(const HeadConfig& config) {
  const HeadConfig::Model& model = config.model;
  Json out;
  out["model"] = {{"name", model.name},
                  {"architecture", model.architecture},
                  {"layers", model.layers},
                  {"heads", model.heads},
                  {"kv_heads", model.kv_heads},
                  {"head_dim", model.head_dim},
                  {"fingerprint", model.fingerprint}};
  if (!model.attention_layers.empty()) out["model"]["attention_layers"] = model.attention_layers;
  out["limit"] = {{"share", config.limit.share},
                  {"achieved", by_length(config.limit.achieved)},
                  {"objective", config.limit.objective},
                  {"allocation", config.limit.allocation},
                  {"gap", config.limit.gap}};
  if (config.limit.loss > 0) {
    out["limit"]["loss"] = config.limit.loss;
    out["limit"]["relative_gap"] = config.limit.gap / config.limit.loss;
  }
  const HeadConfig::Quality& quality = config.quality;
  out["recall"] = {{"mean", quality.recall_mean},
                   {"p05", quality.recall_p05},
                   {"min", quality.recall_min},
                   {"last", quality.recall_last}};
  out["kernel"] = {{"last", config.kernel.last}, {"dense_below", config.kernel.dense_below}};
  out["warnings"] = config.warnings;
  out["certificate"] = nullptr;
  if (quality.held_out)
    out["certificate"] = {{"recall_mean", quality.held_out->recall_mean},
                          {"output_error", quality.held_out->output_error},
                          {"logit_kl", quality.held_out->logit_kl},
                          {"top1_agreement", quality.held_out->top1_agreement},
                          {"achieved", by_length(quality.held_out->achieved)}};
  return out;
}

// A config built in memory may hold any bytes; the dump must not throw for them.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string show_json(const HeadConfig& config) {
  Json out = summary(config);
  Json layers = Json::array();
  for (size_t layer = 0; layer < config.layers.size(); ++layer)
    layers.push_back(layer_json(config, static_cast<int>(layer)));
  out["layers"] = std::move(layers);
  Json worst = Json::array();
  for (const HeadPlace place : worst_heads(config, kWorstHeads))
    worst.push_back(head_json(config, place));
  out["worst_heads"] = std::move(worst);
  return dump(out);
}

std::string heads_json(const HeadConfig& config, const std::vector<HeadPlace>& places) {
  Json heads = Json::array();
  for (const HeadPlace place : places) heads.push_back(head_json(config, place));
  return dump({{"heads", std::move(heads)}});
}

std::string diff_json(const HeadConfig& a, const HeadConfig& b,
                      const std::vector<HeadPlace>& places) {
  Json heads = Json::array();
  for (const HeadPlace place : places)
    heads.push_back({{"a", head_json(a, place)}, {"b", head_json(b, place)}});
  return dump({{"a", summary(a)}, {"b", summary(b)}, {"heads", std::move(heads)}});
}

}  // namespace mi::search
