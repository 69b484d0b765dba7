#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libsearch/report/chosen.h"
#include "libsearch/report/head.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Result<std::vector<search::HeadPlace>> places_of(const std::vector<std::string>& heads,
                                                 const runtime::HeadConfig::Model& model) {
  if (heads.size() == 2 && search::parse_place(heads[0] + "." + heads[1], model))
    return fail(Code::invalid_argument, fmt::format("heads: found {0} {1}, expected LAYER.HEAD: "
                                                    "write {0}.{1}",
                                                    heads[0], heads[1]));
  return parse_places(heads, model);
}

}  // namespace

Status run_head(const InspectOptions& options) {
  MI_TRY(search::ScoreReport report, load_complete_report(options.report));
  MI_TRY(const auto config, load_head_config(options.config));
  MI_CHECK(match_report(report, options.report, config, options.config));
  MI_TRY(const auto places, places_of(options.heads, config.model));
  const auto lengths = search::lengths_of(report.table);
  if (options.length && std::find(lengths.begin(), lengths.end(), *options.length) == lengths.end())
    return fail(Code::invalid_argument,
                fmt::format("length: found {}, expected {}, as {} is calibrated at",
                            *options.length, fmt::join(lengths, " or "), options.config));
  const Terminal out = terminal(STDOUT_FILENO);
  std::string text;
  for (const search::HeadPlace place : places) {
    if (!text.empty()) text += '\n';
    text += search::head_text(report, config, place, {out.width, out.colour}, options.length);
  }
  return print_result(text);
}

}  // namespace mi::tools
