// A device profile as YAML (schema mi.device_profile), read as strictly as a head-config.
#include <fmt/format.h>

#include "libruntime/atomic_file.h"
#include "libruntime/config_head_reader.h"
#include "libruntime/yaml_reader.h"
#include "libruntime/yaml_writer.h"
#include "libsearch/search/device_profile.h"

namespace mi::search {
namespace {

using runtime::YamlErrors;
using runtime::YamlLine;
using runtime::YamlMap;
using runtime::YamlNode;

// No device is that slow; a damaged file must not make times infinite.
constexpr double kMost = 1e6;
constexpr runtime::RealRange kTime{0, kMost, false};
constexpr runtime::RealRange kPrice{0, kMost, true};

PatternTime read_pattern(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node, {"tile", "keys", "rows"}, errors);
  PatternTime time;
  time.tile = map.real("tile", kPrice);
  time.keys = map.real("keys", kTime);
  time.rows = map.real("rows", kTime);
  return time;
}

HeadDimTimes read_times(const YamlNode& node, YamlErrors& errors) {
  const YamlMap map(node, {"head_dim", "dense_below", "dense", "patterns"}, errors);
  HeadDimTimes times;
  times.head_dim = static_cast<int>(map.integer("head_dim", {1, 65'536}));
  times.dense_below = map.integer("dense_below", {0, runtime::kMaxTokens});
  const YamlMap dense(map.need("dense"), {"call", "tile"}, errors);
  times.call = dense.real("call", kTime);
  times.dense_tile = dense.real("tile", kPrice);
  const auto& names = kTimedPatterns;
  const YamlMap patterns(map.need("patterns"),
                         {names[0], names[1], names[2], names[3], names[4], names[5], names[6]},
                         errors);
  for (size_t i = 0; i < names.size(); ++i)
    times.patterns[i] = read_pattern(patterns.need(names[i]), errors);
  return times;
}

DeviceProfile read_profile(const YamlNode& root, YamlErrors& errors) {
  DeviceProfile profile;
  runtime::read_schema(root, "mi.device_profile", 1, errors);
  if (errors.any()) return profile;
  const YamlMap map(root, {"schema", "schema_version", "device", "head_dims"}, errors);
  const YamlMap device(map.need("device"), {"cpu", "backend", "element", "threads"}, errors);
  profile.cpu = device.string("cpu");
  profile.backend = device.string("backend");
  profile.element = device.string("element");
  runtime::read_word(device.need("element"), {"bf16", "f32"}, errors);
  profile.threads = static_cast<int>(device.integer("threads", {1, 65'536}));
  const auto& items = runtime::read_list(map.need("head_dims"), errors);
  if (!errors.any() && items.empty())
    errors.report(map.need("head_dims"), "no head dims", "at least one");
  for (const YamlNode& item : items) {
    HeadDimTimes times = read_times(item, errors);
    if (find_times(profile, times.head_dim) != nullptr)
      errors.report(item, fmt::format("head_dim {} again", times.head_dim), "it once");
    profile.head_dims.push_back(times);
  }
  return profile;
}

}  // namespace

Result<DeviceProfile> parse_profile(std::string_view yaml, std::string_view file) {
  MI_TRY(const YamlNode root, runtime::parse_yaml(yaml, file));
  YamlErrors errors(file);
  DeviceProfile profile = read_profile(root, errors);
  if (errors.any()) return fail(errors.first());
  return profile;
}

Result<DeviceProfile> load_profile(const std::filesystem::path& path) {
  MI_TRY(const std::string text, runtime::read_text_file(path));
  return parse_profile(text, path.string());
}

std::string dump_profile(const DeviceProfile& profile) {
  YamlLine device;
  device.add("cpu", runtime::yaml_text(profile.cpu));
  device.add("backend", runtime::yaml_text(profile.backend));
  device.add("element", profile.element).add("threads", profile.threads);
  std::string out = fmt::format(
      "schema: mi.device_profile\nschema_version: 1\ndevice: {}\n"
      "head_dims:\n",
      device.map());
  for (const HeadDimTimes& times : profile.head_dims) {
    YamlLine dense;
    dense.add("call", times.call).add("tile", times.dense_tile);
    out += fmt::format("- head_dim: {}\n  dense_below: {}\n  dense: {}\n  patterns:\n",
                       times.head_dim, times.dense_below, dense.map());
    for (size_t i = 0; i < kTimedPatterns.size(); ++i) {
      YamlLine line;
      line.add("tile", times.patterns[i].tile).add("keys", times.patterns[i].keys);
      out += fmt::format("    {}: {}\n", kTimedPatterns[i],
                         line.add("rows", times.patterns[i].rows).map());
    }
  }
  return out;
}

Status save_profile(const DeviceProfile& profile, const std::filesystem::path& path) {
  const std::string text = dump_profile(profile);
  // What load_profile would refuse is never written.
  MI_TRY([[maybe_unused]] const auto back, parse_profile(text, path.filename().string()));
  return runtime::write_file_atomically(path, text);
}

}  // namespace mi::search
