// A candidate space from YAML (schema mi.candidates), read as strictly as a head-config.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libruntime/config_head_reader.h"
#include "libruntime/yaml_reader.h"
#include "libruntime/yaml_writer.h"
#include "libsearch/search/candidates.h"

namespace mi::search {
namespace {

using runtime::BlockEstimate;
using runtime::Pattern;
using runtime::YamlErrors;
using runtime::YamlMap;
using runtime::YamlNode;

// Levels are bytes, and 255 means "selected by none".
constexpr size_t kMostCandidates = 254;

enum class Values { densities, factors, tokens };  // falling reals, rising reals, rising integers

// The list of one family's values, cheapest candidate first.
std::vector<double> read_values(const YamlNode& node, Values kind, YamlErrors& errors) {
  const bool falling = kind == Values::densities;
  std::vector<double> values;
  const auto& items = runtime::read_list(node, errors);
  if (items.empty() || items.size() > kMostCandidates)
    errors.report(node, fmt::format("{} values", items.size()),
                  fmt::format("a list of 1 to {} values", kMostCandidates));
  for (const YamlNode& item : items) {
    const double value =
        kind == Values::tokens
            ? static_cast<double>(runtime::read_integer(item, {1, runtime::kMaxTokens}, errors))
            : runtime::read_real(item, runtime::kPositive, errors);
    if (!values.empty() && (falling ? value >= values.back() : value <= values.back()))
      errors.report(item, fmt::format("{:g} after {:g}", value, values.back()),
                    falling ? "falling values, so that candidates grow" : "rising values");
    values.push_back(value);
  }
  return values;
}

Family read_family(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node,
                    {"pattern", "estimate", "stride", "sink", "local", "density", "vertical",
                     "slash", "factors", "blocks"},
                    errors);
  Family family;
  const auto allow = [&](std::initializer_list<std::string_view> allowed) {
    for (const YamlNode& key : node.keys) {
      bool known = key.text == "pattern";
      for (std::string_view name : allowed) known = known || key.text == name;
      if (!known)
        errors.report(key, fmt::format("'{}' beside this pattern", key.text),
                      fmt::format("{}", fmt::join(allowed, ", ")));
    }
  };
  constexpr Pattern kNamed[] = {Pattern::a_shape, Pattern::vertical_slash, Pattern::block_sparse,
                                Pattern::stripe, Pattern::stripe_vertical_slash};
  family.params.pattern = kNamed[runtime::read_word(
      map.need("pattern"),
      {"a_shape", "vertical_slash", "block_sparse", "stripe", "stripe+vertical_slash"}, errors)];
  const Pattern pattern = family.params.pattern;
  constexpr runtime::IntegerRange kTokens{0, runtime::kMaxTokens};
  if (pattern == Pattern::a_shape) {
    allow({"sink", "local"});
    family.params.sink = map.integer("sink", kTokens);
    family.values = read_values(map.need("local"), Values::tokens, errors);
    return family;
  }
  if (pattern == Pattern::block_sparse) {
    constexpr BlockEstimate kEstimates[] = {BlockEstimate::pooled, BlockEstimate::antidiagonal};
    family.params.estimate =
        kEstimates[runtime::read_word(map.need("estimate"), {"pooled", "antidiagonal"}, errors)];
    if (family.params.estimate == BlockEstimate::antidiagonal) {
      const int64_t stride = map.integer("stride", {8, 16});
      if (!runtime::is_stride(stride))
        errors.report(node, fmt::format("stride {}", stride), "8 or 16");
      family.params.stride = static_cast<int>(stride);
    } else if (const YamlNode* key = map.find_key("stride")) {
      errors.report(*key, "a stride", "none for pooled");
    }
  }
  if (pattern == Pattern::vertical_slash && map.find("factors") != nullptr) {
    allow({"vertical", "slash", "factors"});
    family.params.counts = true;
    family.params.vertical = map.real("vertical", runtime::kNotNegative);
    family.params.slash = map.real("slash", runtime::kNotNegative);
    family.values = read_values(map.need("factors"), Values::factors, errors);
    return family;
  }
  if (pattern == Pattern::block_sparse && map.find("blocks") != nullptr) {
    allow({"estimate", "stride", "blocks"});
    family.params.counts = true;
    family.values = read_values(map.need("blocks"), Values::tokens, errors);
    return family;
  }
  if (pattern == Pattern::block_sparse) {
    allow({"estimate", "stride", "sink", "local", "density"});
  } else {
    allow({"sink", "local", "density"});
  }
  family.params.sink = map.integer("sink", kTokens);
  family.params.local = map.integer("local", kTokens);
  family.values = read_values(map.need("density"), Values::densities, errors);
  return family;
}

}  // namespace

Result<CandidateSpace> parse_candidates(std::string_view yaml, std::string_view file) {
  MI_TRY(const YamlNode root, runtime::parse_yaml(yaml, file));
  YamlErrors errors(file);
  runtime::read_schema(root, "mi.candidates", 1, errors);
  CandidateSpace space;
  if (!errors.any()) {
    const YamlMap map(root, {"schema", "schema_version", "families"}, errors);
    const auto& families = runtime::read_list(map.need("families"), errors);
    if (!errors.any() && families.empty())
      errors.report(map.need("families"), "no families", "at least one");
    for (const YamlNode& family : families) space.families.push_back(read_family(family, errors));
  }
  if (errors.any()) return fail(errors.first());
  return space;
}

std::string dump_candidates(const CandidateSpace& space) {
  std::string out = "schema: mi.candidates\nschema_version: 1\nfamilies:\n";
  for (const Family& family : space.families) {
    const runtime::EstimatorParams& params = family.params;
    const bool window = params.pattern == Pattern::a_shape;
    const bool blocks = params.pattern == Pattern::block_sparse;
    const auto add = [&](std::string_view key, const std::string& value) {
      out += fmt::format("  {}: {}\n", key, value);
    };
    out += fmt::format("- pattern: {}\n", runtime::to_string(params.pattern));
    if (blocks) add("estimate", std::string(runtime::to_string(params.estimate)));
    if (blocks && params.estimate == BlockEstimate::antidiagonal)
      add("stride", std::to_string(params.stride));
    if (!params.counts) add("sink", std::to_string(params.sink));
    if (!params.counts && !window) add("local", std::to_string(params.local));
    if (params.counts && !blocks) {
      add("vertical", runtime::yaml_number(params.vertical));
      add("slash", runtime::yaml_number(params.slash));
    }
    std::vector<std::string> values;
    for (const double value : family.values) values.push_back(runtime::yaml_number(value));
    add(window           ? "local"
        : !params.counts ? "density"
        : blocks         ? "blocks"
                         : "factors",
        fmt::format("[{}]", fmt::join(values, ", ")));
  }
  return out;
}

Result<CandidateSpace> load_candidates(const std::filesystem::path& path) {
  MI_TRY(const std::string text, runtime::read_text_file(path));
  return parse_candidates(text, path.string());
}

}  // namespace mi::search
