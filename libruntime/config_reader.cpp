// The strict reader of mi.head_config version 1.
#include <algorithm>
#include <exception>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "kernels/attention.h"
#include "libruntime/config.h"
#include "libruntime/config_head_reader.h"
#include "libruntime/yaml_reader.h"

namespace mi::runtime {
namespace {

// Bounds that no model comes near; they keep a damaged file from asking for absurd sizes.
constexpr int64_t kMaxLayers = 10'000;
constexpr int64_t kMaxHeads = 10'000;

HeadConfig::Model read_model(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node,
                    {"name", "architecture", "layers", "heads", "kv_heads", "head_dim",
                     "rope_theta", "scale", "softcap", "attention_layers", "fingerprint"},
                    errors);
  HeadConfig::Model model;
  model.name = map.string("name");
  model.architecture = map.string("architecture");
  model.layers = static_cast<int>(map.integer("layers", {1, kMaxLayers}));
  model.heads = static_cast<int>(map.integer("heads", {1, kMaxHeads}));
  model.kv_heads = static_cast<int>(map.integer("kv_heads", {1, model.heads}));
  if (model.heads % std::max(model.kv_heads, 1) != 0)
    errors.report(map.need("kv_heads"), fmt::format("{} kv_heads", model.kv_heads),
                  fmt::format("a divisor of {} heads", model.heads));
  model.head_dim = static_cast<int>(map.integer("head_dim", {1, 65'536}));
  model.rope_theta = map.real("rope_theta", kNotNegative);
  if (map.find("scale") != nullptr) model.scale = map.real("scale", kPositive);
  if (map.find("softcap") != nullptr) model.softcap = map.real("softcap", kPositive);
  if (const YamlNode* layers = map.find("attention_layers")) {
    for (const YamlNode& item : read_list(*layers, errors)) {
      const int64_t above = model.attention_layers.empty() ? -1 : model.attention_layers.back();
      const int64_t layer = read_integer(item, {0, kMaxLayers}, errors);
      if (layer <= above)
        errors.report(item, describe(item), fmt::format("rising layers, above {}", above));
      model.attention_layers.push_back(static_cast<int>(layer));
    }
    if (std::ssize(model.attention_layers) != model.layers)
      errors.report(*layers, fmt::format("{} layers", model.attention_layers.size()),
                    fmt::format("{}, as many as layers", model.layers));
  }
  model.fingerprint = map.string("fingerprint");
  return model;
}

HeadConfig::Producer read_producer(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node, {"tool", "backend", "seed", "options"}, errors);
  HeadConfig::Producer producer;
  producer.tool = map.string("tool");
  producer.backend = map.string("backend");
  producer.seed = map.unsigned_integer("seed");
  producer.options = map.string("options");
  return producer;
}

std::vector<SampleNote> read_samples(const YamlNode& node, YamlErrors& errors) {
  std::vector<SampleNote> notes;
  for (const YamlNode& item : read_list(node, errors)) {
    const YamlMap map(item, {"source", "tokens", "sha256"}, errors);
    SampleNote note;
    note.source = map.string("source");
    note.tokens = map.integer("tokens", {1, kMaxTokens});
    note.sha256 = map.string("sha256");
    const bool hex = note.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!hex || (note.sha256.size() != 64 && !note.sha256.empty()))
      errors.report(map.need("sha256"), describe(map.need("sha256")), "64 hexadecimal digits");
    notes.push_back(std::move(note));
  }
  return notes;
}

HeadConfig::Calibration read_calibration(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node, {"lengths", "samples", "held_out"}, errors);
  HeadConfig::Calibration calibration;
  for (const YamlNode& item : read_list(map.need("lengths"), errors)) {
    const int64_t above = calibration.lengths.empty() ? 0 : calibration.lengths.back();
    const int64_t length = read_integer(item, {1, kMaxTokens}, errors);
    if (length <= above)
      errors.report(item, describe(item), fmt::format("ascending lengths, above {}", above));
    calibration.lengths.push_back(length);
  }
  calibration.samples = read_samples(map.need("samples"), errors);
  calibration.held_out = read_samples(map.need("held_out"), errors);
  return calibration;
}

HeadConfig::Limit read_limit(const YamlNode& node, const std::vector<int64_t>& lengths,
                             YamlErrors& errors) {
  const YamlMap map(node, {"share", "achieved", "objective", "allocation", "gap", "loss"}, errors);
  HeadConfig::Limit limit;
  limit.share = map.real("share", kShare);
  limit.achieved = read_by_length(map.need("achieved"), lengths, kNotNegative, errors);
  limit.objective = map.string("objective");
  read_word(map.need("objective"), {"error", "square", "mass", "cost", "none"}, errors);
  limit.allocation = map.string("allocation");
  read_word(map.need("allocation"), {"global", "per-head", "min-recall", "uniform", "imported"},
            errors);
  if (limit.allocation == "global" || limit.allocation == "per-head")
    for (const auto& [length, share] : limit.achieved)
      if (share > limit.share + 1e-6)  // it is written with six decimals
        errors.report(map.need("achieved"), fmt::format("{} at {}", share, length),
                      fmt::format("at most the limit's share, {}", limit.share));
  limit.gap = map.real("gap", kNotNegative);
  if (map.find("loss") != nullptr) {
    limit.loss = map.real("loss", kPositive);
    if (limit.gap > limit.loss)
      errors.report(map.need("gap"), describe(map.need("gap")),
                    fmt::format("at most the loss, {}", limit.loss));
  }
  return limit;
}

HeadConfig::Quality read_quality(const YamlNode& node, const std::vector<int64_t>& lengths,
                                 YamlErrors& errors) {
  const YamlMap map(node, {"recall_mean", "recall_p05", "recall_min", "recall_last", "held_out"},
                    errors);
  HeadConfig::Quality quality;
  quality.recall_mean = map.real("recall_mean", kFraction);
  quality.recall_p05 = map.real("recall_p05", kFraction);
  quality.recall_min = map.real("recall_min", kFraction);
  quality.recall_last = map.real("recall_last", kFraction);
  if (const YamlNode* held_out = map.find("held_out")) {
    const YamlMap inner(*held_out,
                        {"recall_mean", "output_error", "logit_kl", "top1_agreement", "achieved"},
                        errors);
    HeldOut out;
    out.recall_mean = inner.real("recall_mean", kFraction);
    out.output_error = inner.real("output_error", kNotNegative);
    out.logit_kl = inner.real("logit_kl", kNotNegative);
    out.top1_agreement = inner.real("top1_agreement", kFraction);
    out.achieved = read_by_length(inner.need("achieved"), lengths, kNotNegative, errors);
    quality.held_out = std::move(out);
  }
  return quality;
}

HeadConfig::Kernel read_kernel(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node, {"block", "tile", "last", "dense_below"}, errors);
  HeadConfig::Kernel kernel;
  // Budgets and thresholds mean something else under other sizes.
  kernel.block = static_cast<int>(map.integer("block", {kernels::kRowBlock, kernels::kRowBlock}));
  kernel.tile = static_cast<int>(map.integer("tile", {kernels::kKeyTile, kernels::kKeyTile}));
  kernel.last = map.integer("last", {0, kMaxTokens});
  if (map.find("dense_below") != nullptr)
    kernel.dense_below = map.integer("dense_below", {0, kMaxTokens});
  return kernel;
}

// Entries of a list by the index they name: each of 0..count-1 once, in any order.
class Slots {
 public:
  Slots(std::string_view what, int64_t count, YamlErrors& errors)
      : what_(what), count_(count), errors_(errors) {}

  // The index that `map` names; -1 once anything is wrong.
  int64_t take(const YamlMap& map) {
    const int64_t index = map.integer(what_, {0, count_ - 1});
    if (errors_.any()) return -1;
    if (index >= static_cast<int64_t>(taken_.size())) taken_.resize(static_cast<size_t>(index) + 1);
    if (taken_[static_cast<size_t>(index)])
      errors_.report(map.need(what_), fmt::format("{} {} again", what_, index), "it once");
    taken_[static_cast<size_t>(index)] = true;
    return errors_.any() ? -1 : index;
  }
  void finish(const YamlNode& place) {
    for (int64_t index = 0; index < count_ && !errors_.any(); ++index)
      if (index >= static_cast<int64_t>(taken_.size()) || !taken_[static_cast<size_t>(index)])
        errors_.report(place, fmt::format("no {} {}", what_, index),
                       fmt::format("all of 0 to {}", count_ - 1));
  }

 private:
  std::string_view what_;
  int64_t count_;
  YamlErrors& errors_;
  std::vector<bool> taken_;
};

std::vector<HeadEntry> read_heads(const YamlNode& node, const HeadConfig& config,
                                  YamlErrors& errors) {
  std::vector<HeadEntry> heads;
  Slots slots("head", config.model.heads, errors);
  for (const YamlNode& item : read_list(node, errors)) {
    const YamlMap map(item,
                      {"head", "pattern", "estimate", "stride", "sink", "local", "density", "share",
                       "vertical", "slash", "blocks", "recall"},
                      errors);
    HeadEntry head = read_head(map, config.calibration.lengths, errors);
    const int64_t index = slots.take(map);
    if (index < 0) return {};
    if (static_cast<size_t>(index) >= heads.size()) heads.resize(static_cast<size_t>(index) + 1);
    heads[static_cast<size_t>(index)] = std::move(head);
  }
  slots.finish(node);
  return heads;
}

std::vector<std::vector<HeadEntry>> read_layers(const YamlNode& node, const HeadConfig& config,
                                                YamlErrors& errors) {
  std::vector<std::vector<HeadEntry>> layers;
  Slots slots("layer", config.model.layers, errors);
  for (const YamlNode& item : read_list(node, errors)) {
    const YamlMap map(item, {"layer", "heads"}, errors);
    const int64_t index = slots.take(map);
    if (index < 0) return {};
    if (static_cast<size_t>(index) >= layers.size()) layers.resize(static_cast<size_t>(index) + 1);
    layers[static_cast<size_t>(index)] = read_heads(map.need("heads"), config, errors);
    if (errors.any()) return {};
  }
  slots.finish(node);
  return layers;
}

HeadConfig read_config(const YamlNode& root, YamlErrors& errors) {
  HeadConfig config;
  read_schema(root, "mi.head_config", kHeadConfigVersion, errors);
  if (errors.any()) return config;
  const YamlMap map(root,
                    {"schema", "schema_version", "model", "producer", "calibration", "limit",
                     "quality", "warnings", "kernel", "layers"},
                    errors);
  // Stops at the first wrong section: later ones are checked against earlier ones.
  config.model = read_model(map.need("model"), errors);
  config.producer = read_producer(map.need("producer"), errors);
  config.calibration = read_calibration(map.need("calibration"), errors);
  if (errors.any()) return config;
  config.limit = read_limit(map.need("limit"), config.calibration.lengths, errors);
  config.quality = read_quality(map.need("quality"), config.calibration.lengths, errors);
  if (const YamlNode* warnings = map.find("warnings")) {
    for (const YamlNode& item : read_list(*warnings, errors)) {
      config.warnings.push_back(read_string(item, errors));
      if (config.warnings.back().find_first_not_of(' ') == std::string::npos)
        errors.report(item, "an empty warning", "a text");
    }
    if (config.warnings.empty()) errors.report(*warnings, "no warnings", "one at least");
  }
  config.kernel = read_kernel(map.need("kernel"), errors);
  if (errors.any()) return config;
  config.layers = read_layers(map.need("layers"), config, errors);
  return config;
}

}  // namespace

Result<HeadConfig> parse_config(std::string_view yaml, std::string_view file_name) {
  try {
    MI_TRY(const YamlNode root, parse_yaml(yaml, file_name));
    YamlErrors errors(file_name);
    HeadConfig config = read_config(root, errors);
    if (errors.any()) return fail(errors.first());
    return config;
  } catch (const std::exception& error) {
    return fail(Code::schema, fmt::format("{}: cannot be read: {}", file_name, error.what()));
  }
}

}  // namespace mi::runtime
