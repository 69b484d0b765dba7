#include "libsearch/report/reference_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "libruntime/resolve.h"
#include "libsearch/model/json_reader.h"

namespace mi::search {
namespace {

using runtime::HeadEntry;
using runtime::Pattern;

constexpr int64_t kMostTokens = int64_t{1} << 30;
// What the published implementation has in its code, not in its files.
constexpr int64_t kBlocks = 100;
constexpr int64_t kUsualVertical = 1000;
constexpr int64_t kUsualSlash = 6096;

HeadEntry vertical_slash(double vertical, double slash) {
  HeadEntry entry;
  entry.pattern = Pattern::vertical_slash;
  entry.vertical = {{0, vertical}};
  entry.slash = {{0, slash}};
  return entry;
}

Failure wrong(const std::string& place, const Json& found, std::string_view expected) {
  std::string text = found.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return fail(Code::schema, fmt::format("{}: found {}, expected {}", place, text, expected));
}

// [type, a, b, score]
Result<HeadEntry> read_entry(const Json& json, const std::string& place) {
  if (!json.is_array() || json.size() != 4) return wrong(place, json, "[type, a, b, score]");
  int64_t counts[2];
  for (size_t i = 0; i < 2; ++i) {
    const Json& value = json[i + 1];
    const bool fits = value.is_number_integer() && value.get<double>() >= 0 &&
                      value.get<double>() <= static_cast<double>(kMostTokens);
    if (!fits) return wrong(place, value, fmt::format("a count from 0 to {}", kMostTokens));
    counts[i] = value.get<int64_t>();
  }
  const Json& type = json[0];
  HeadEntry entry;
  if (type == "vertical_and_slash") {
    entry = vertical_slash(static_cast<double>(counts[0]), static_cast<double>(counts[1]));
  } else if (type == "stream_llm") {
    if (counts[1] < 1) return wrong(place, json[2], "a local window of at least 1");
    entry.pattern = Pattern::a_shape;
    entry.sink = counts[0];
    entry.local = {{0, static_cast<double>(counts[1])}};
  } else if (type == "block_sparse") {
    entry.pattern = Pattern::block_sparse;
    entry.blocks = {{0, static_cast<double>(kBlocks)}};
  } else {
    return wrong(place, type, "vertical_and_slash, stream_llm or block_sparse");
  }
  // A mean of softmax sums: rounding may leave it above 1.
  constexpr double kMostScore = 1.001;
  const Json& score = json[3];
  if (!score.is_number() || !(score.get<double>() >= 0 && score.get<double>() <= kMostScore))
    return wrong(place, score, "a score from 0 to 1");
  entry.recall = std::min(1.0, score.get<double>());
  return entry;
}

// Heads by number; those that are not there run the published default.
Result<std::vector<HeadEntry>> read_layer(const Json& json, const std::string& place, int heads,
                                          int& missing) {
  if (!json.is_object()) return wrong(place, json, "an object, a key per head");
  std::vector<HeadEntry> entries(static_cast<size_t>(heads),
                                 vertical_slash(kUsualVertical, kUsualSlash));
  missing += heads - static_cast<int>(std::min<size_t>(json.size(), entries.size()));
  for (const auto& [key, value] : json.items()) {
    int head = -1;
    const char* end = key.data() + key.size();
    // Only as it is written again: 7, neither 07 nor +7.
    if (std::from_chars(key.data(), end, head).ptr != end || head < 0 || head >= heads ||
        std::to_string(head) != key)
      return wrong(place, key, fmt::format("heads 0 to {}", heads - 1));
    MI_TRY(entries[static_cast<size_t>(head)],
           read_entry(value, fmt::format("{}, head {}", place, head)));
  }
  return entries;
}

void summarize(runtime::HeadConfig& config) {
  std::vector<double> scores;
  for (const auto& layer : config.layers)
    for (const HeadEntry& head : layer) scores.push_back(head.recall);
  std::sort(scores.begin(), scores.end());
  auto& quality = config.quality;
  for (const double score : scores)
    quality.recall_mean += score / static_cast<double>(scores.size());
  quality.recall_min = scores.front();
  quality.recall_p05 = scores[scores.size() / 20];
  quality.recall_last = std::min(1.0, quality.recall_mean);
  quality.recall_mean = quality.recall_last;
}

double at(const runtime::PerLength& values, int64_t length) {
  return values.empty() ? 0 : std::round(runtime::value_at(values, length));
}

}  // namespace

Result<runtime::HeadConfig> from_reference(std::string_view json, const std::string& file,
                                           const runtime::HeadConfig::Model& model) {
  MI_TRY(const Json root, parse_json(json, file));
  if (!root.is_array()) return wrong(file, root, "a list with an object per layer");
  if (root.size() != static_cast<size_t>(model.layers))
    return fail(Code::schema, fmt::format("{}: found {} layers, expected {}, as {} has", file,
                                          root.size(), model.layers, model.name));
  runtime::HeadConfig config;
  config.model = model;
  config.producer = {"mi-inspect convert", "none", file, 0};
  config.limit.objective = "none";
  config.limit.allocation = "imported";
  config.kernel.last = 0;
  int missing = 0;
  for (size_t layer = 0; layer < root.size(); ++layer) {
    MI_TRY(config.layers.emplace_back(),
           read_layer(root[layer], fmt::format("{}: layer {}", file, layer), model.heads, missing));
  }
  summarize(config);
  config.warnings.push_back(
      "imported: recall is the file's score, which its program measured on one prompt, often for "
      "another pattern than the one named; mi-inspect verify measures this config");
  if (missing > 0)
    config.warnings.push_back(
        fmt::format("imported: {} heads are not in the file and run its program's default, "
                    "vertical_slash {}/{}",
                    missing, kUsualVertical, kUsualSlash));
  return config;
}

ReferenceText to_reference(const runtime::HeadConfig& config, int64_t length) {
  ReferenceText text;
  std::map<std::string, int> left_out;  // heads by what they run
  int capped = 0;
  auto root = nlohmann::ordered_json::array();
  for (const auto& layer : config.layers) {
    auto heads = nlohmann::ordered_json::object();
    for (size_t h = 0; h < layer.size(); ++h) {
      const HeadEntry& head = layer[h];
      const auto add = [&](const char* type, double a, double b) {
        heads[std::to_string(h)] = {type, static_cast<int64_t>(a), static_cast<int64_t>(b),
                                    head.recall};
        if (!head.share.empty()) ++capped;
      };
      if (head.pattern == Pattern::a_shape && !head.local.empty())
        add("stream_llm", static_cast<double>(head.sink), at(head.local, length));
      else if (head.pattern == Pattern::vertical_slash && !head.vertical.empty())
        add("vertical_and_slash", at(head.vertical, length), at(head.slash, length));
      else if (head.pattern == Pattern::block_sparse && at(head.blocks, length) == kBlocks)
        add("block_sparse", 0, 0);
      else
        ++left_out[std::string(runtime::to_string(head.pattern))];
    }
    root.push_back(std::move(heads));
  }
  text.json = root.dump() + "\n";
  for (const auto& [pattern, heads] : left_out)
    text.lost.push_back(
        fmt::format("{} heads run {} in a form that the format has no word for: left out, where "
                    "the published program runs vertical_and_slash {}/{}",
                    heads, pattern, kUsualVertical, kUsualSlash));
  if (capped > 0) text.lost.push_back(fmt::format("{} heads lose their cap (share)", capped));
  if (config.kernel.last > 0)
    text.lost.push_back(
        fmt::format("the last {} rows of a prompt do not run dense", config.kernel.last));
  return text;
}

}  // namespace mi::search
