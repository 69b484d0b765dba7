// Recipes (schema mi.recipe), read as strictly as configs; described in calib_data/README.md.
#include <algorithm>
#include <exception>
#include <string>

#include <fmt/format.h>

#include "libruntime/yaml_reader.h"
#include "libsearch/data/sample.h"

namespace mi::search {
namespace {

using runtime::read_integer;
using runtime::read_list;
using runtime::read_real;
using runtime::YamlErrors;
using runtime::YamlMap;
using runtime::YamlNode;

constexpr int kRecipeVersion = 1;
constexpr size_t kMaxSamples = 1000;

std::vector<int64_t> read_lengths(const YamlNode& node, YamlErrors& errors) {
  std::vector<int64_t> lengths;
  for (const YamlNode& item : read_list(node, errors)) {
    const int64_t above = lengths.empty() ? 0 : lengths.back();
    const int64_t length = read_integer(item, {1, kMaxLength}, errors);
    if (length <= above)
      errors.report(item, describe(item), fmt::format("ascending lengths, above {}", above));
    lengths.push_back(length);
  }
  if (lengths.empty()) errors.report(node, "no lengths", "at least one");
  return lengths;
}

// part: [0, 0.5]
void read_part(const YamlNode& node, SampleSpec& spec, YamlErrors& errors) {
  const auto& bounds = read_list(node, errors);
  if (bounds.size() != 2) {
    errors.report(node, fmt::format("{} values", bounds.size()), "[begin, end] in fractions");
    return;
  }
  spec.part_begin = read_real(bounds[0], runtime::kFraction, errors);
  spec.part_end = read_real(bounds[1], runtime::kFraction, errors);
  if (spec.part_begin >= spec.part_end)
    errors.report(node, "an empty part", "[begin, end] with begin below end");
}

// A key that the kind has no use for is a mistake: it would change nothing.
void refuse_key(const YamlMap& map, std::string_view key, std::string_view kind,
                YamlErrors& errors) {
  if (const YamlNode* found = map.find_key(key))
    errors.report(*found, describe(*found), fmt::format("none for kind {}", kind));
}

SampleSpec read_sample(const YamlNode& node, const std::filesystem::path& folder,
                       YamlErrors& errors) {
  const YamlMap map(node, {"kind", "texts", "seed", "start", "part"}, errors);
  SampleSpec spec;
  spec.kind = map.string("kind");
  read_word(
      map.need("kind"),
      {"text", "kv_retrieval", "needle", "repeat", "multi_key", "multi_query", "variable_tracking"},
      errors);
  if (spec.kind == "text")
    refuse_key(map, "seed", spec.kind, errors);
  else
    spec.seed = map.unsigned_integer("seed");
  if (spec.kind != "text")
    refuse_key(map, "start", spec.kind, errors);
  else if (map.find("start"))
    spec.start = map.integer("start", {0, kMaxLength});
  if (spec.kind == "kv_retrieval") {
    refuse_key(map, "texts", spec.kind, errors);
    refuse_key(map, "part", spec.kind, errors);
    return spec;
  }
  const YamlNode& texts = map.need("texts");
  for (const YamlNode& item : read_list(texts, errors)) {
    const std::string name = read_string(item, errors);
    if (name.empty()) errors.report(item, "an empty name", "a text file");
    spec.texts.push_back(folder / name);
  }
  if (spec.texts.empty()) errors.report(texts, "no texts", "at least one");
  if (const YamlNode* part = map.find("part")) read_part(*part, spec, errors);
  return spec;
}

// A certificate is worth something only on samples that the calibration has not seen.
std::string shared_by(const SampleSpec& a, const SampleSpec& b) {
  const bool drawn = a.kind != "text" && a.kind != "repeat";  // the answer is drawn by seed
  if (drawn && b.kind == a.kind && a.seed == b.seed)
    return fmt::format("{} seed {}", a.kind, a.seed);
  if (a.part_end <= b.part_begin || b.part_end <= a.part_begin) return "";
  for (const auto& text : a.texts)
    for (const auto& other : b.texts) {
      std::error_code missing;  // files that are not there are reported when they are read
      if (text.lexically_normal() == other.lexically_normal() ||
          std::filesystem::equivalent(text, other, missing))
        return text.filename().string();
    }
  return "";
}

Recipe read_recipe(const YamlNode& root, const std::filesystem::path& folder, YamlErrors& errors) {
  Recipe recipe;
  read_schema(root, "mi.recipe", kRecipeVersion, errors);
  if (errors.any()) return recipe;
  const YamlMap map(
      root, {"schema", "schema_version", "name", "lengths", "calibration", "held_out"}, errors);
  recipe.name = map.string("name");
  recipe.lengths = read_lengths(map.need("lengths"), errors);
  const auto read = [&](std::string_view key, std::vector<SampleSpec>& specs) {
    const YamlNode& node = map.need(key);
    const auto& items = read_list(node, errors);
    if (items.empty() || items.size() > kMaxSamples)
      errors.report(node, fmt::format("{} samples", items.size()),
                    fmt::format("1 to {}", kMaxSamples));
    for (const YamlNode& item : items) {
      if (errors.any()) return;
      specs.push_back(read_sample(item, folder, errors));
    }
  };
  read("calibration", recipe.calibration);
  read("held_out", recipe.held_out);
  if (errors.any()) return recipe;
  const auto& places = map.need("held_out").items;
  for (size_t i = 0; i < recipe.held_out.size(); ++i)
    for (const SampleSpec& seen : recipe.calibration)
      if (const std::string both = shared_by(seen, recipe.held_out[i]); !both.empty())
        errors.report(places[i], fmt::format("{} in calibration and held_out", both),
                      "disjoint texts, parts and seeds");
  return recipe;
}

}  // namespace

Result<Recipe> parse_recipe(std::string_view yaml, std::string_view file_name,
                            const std::filesystem::path& folder) {
  try {
    MI_TRY(const YamlNode root, runtime::parse_yaml(yaml, file_name));
    YamlErrors errors(file_name);
    Recipe recipe = read_recipe(root, folder, errors);
    if (errors.any()) return fail(errors.first());
    return recipe;
  } catch (const std::exception& error) {
    return fail(Code::schema, fmt::format("{}: cannot be read: {}", file_name, error.what()));
  }
}

Result<Recipe> load_recipe(const std::filesystem::path& path) {
  MI_TRY(const std::string text, runtime::read_text_file(path));
  return parse_recipe(text, path.string(), path.parent_path());
}

Recipe recipe_from_texts(std::span<const std::filesystem::path> texts,
                         std::vector<int64_t> lengths) {
  Recipe recipe;
  recipe.name = "texts";
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  recipe.lengths = std::move(lengths);
  const auto add = [&](std::vector<SampleSpec>& specs, double begin, double end, uint64_t seed) {
    for (const std::string_view kind : {"text", "needle", "kv_retrieval", "repeat"}) {
      // Held-out samples are fewer: each costs a dense and a sparse forward pass.
      if (kind == "repeat" && begin > 0) continue;
      SampleSpec spec;
      spec.kind = kind;
      if (kind != "text") spec.seed = seed++;
      if (kind != "kv_retrieval") {
        spec.texts.assign(texts.begin(), texts.end());
        spec.part_begin = begin;
        spec.part_end = end;
      }
      specs.push_back(std::move(spec));
    }
  };
  add(recipe.calibration, 0, 0.5, 1);
  add(recipe.held_out, 0.5, 1, 1001);
  return recipe;
}

}  // namespace mi::search
