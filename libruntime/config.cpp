#include "libruntime/config.h"

#include <array>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "libruntime/atomic_file.h"
#include "libruntime/yaml_reader.h"

namespace mi::runtime {
namespace {

constexpr std::array<std::pair<Pattern, std::string_view>, 6> kPatterns{{
    {Pattern::dense, "dense"},
    {Pattern::a_shape, "a_shape"},
    {Pattern::vertical_slash, "vertical_slash"},
    {Pattern::block_sparse, "block_sparse"},
    {Pattern::stripe, "stripe"},
    {Pattern::stripe_vertical_slash, "stripe+vertical_slash"},
}};

}  // namespace

std::string_view to_string(Pattern pattern) {
  for (const auto& [value, name] : kPatterns)
    if (value == pattern) return name;
  return "unknown";
}

std::optional<Pattern> pattern_from_string(std::string_view name) {
  for (const auto& [value, text] : kPatterns)
    if (text == name) return value;
  return std::nullopt;
}

std::string_view to_string(BlockEstimate estimate) {
  return estimate == BlockEstimate::pooled ? "pooled" : "antidiagonal";
}

Result<HeadConfig> load_config(const std::filesystem::path& path) {
  MI_TRY(const std::string text, read_text_file(path));
  return parse_config(text, path.string());
}

Status save_config(const HeadConfig& config, const std::filesystem::path& path) {
  try {
    // What load_config would refuse, or would read as something else, is never written.
    const std::string text = dump_config(config);
    const auto back = parse_config(text, path.filename().string());
    if (!back) return fail(Code::invalid_argument, "config not written: " + back.error().what);
    if (!(*back == config))
      return fail(Code::invalid_argument,
                  fmt::format("{}: config not written: it holds values that the file format drops "
                              "(a head's parameter that its pattern does not use)",
                              path.string()));
    return write_file_atomically(path, text);
  } catch (const std::exception& error) {
    return fail(Code::io, fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace mi::runtime
