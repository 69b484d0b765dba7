// Files and places as the user names them.
#include <array>
#include <fstream>

#include <fmt/format.h>

#include "libruntime/config.h"
#include "tools/mi-inspect/commands.h"

namespace mi::tools {
namespace {

bool is_report(const std::string& path) {
  constexpr std::string_view kMagic = "mi.report sha256:";
  std::array<char, kMagic.size()> start{};
  std::ifstream file(path, std::ios::binary);
  return file.read(start.data(), start.size()) &&
         std::string_view(start.data(), start.size()) == kMagic;
}

}  // namespace

Status check_no_report(const std::string& path) {
  if (!is_report(path)) return {};
  return fail(Code::schema,
              fmt::format("{}: found a score report, expected a head-config (YAML); head, "
                          "pareto and html take score reports",
                          path));
}

Result<runtime::HeadConfig> load_head_config(const std::string& path) {
  MI_CHECK(check_no_report(path));
  return runtime::load_config(path);
}

Result<std::vector<search::HeadPlace>> parse_places(const std::vector<std::string>& texts,
                                                    const runtime::HeadConfig::Model& model) {
  std::vector<search::HeadPlace> places;
  for (const std::string& text : texts) {
    MI_TRY(const search::HeadPlace place, search::parse_place(text, model));
    places.push_back(place);
  }
  return places;
}

}  // namespace mi::tools
