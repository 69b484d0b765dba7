#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libruntime/atomic_file.h"
#include "libruntime/config.h"
#include "libsearch/model/mapped_file.h"
#include "libsearch/model/model.h"
#include "libsearch/report/reference_json.h"
#include "libsearch/search/planned_attention.h"
#include "tools/mi-inspect/commands.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Status import(const InspectOptions& options, const std::string& json) {
  if (options.model.empty())
    return fail(Code::invalid_argument,
                fmt::format("model: found none, expected --model: {} does not say what it is for",
                            options.config));
  if (!options.lengths.empty())
    return fail(Code::invalid_argument,
                fmt::format("length: found {}, expected none: {} has one set of parameters",
                            options.lengths.front(), options.config));
  MI_TRY(const auto model, search::Model::open(options.model));
  MI_TRY(const runtime::HeadConfig config,
         search::from_reference(json, options.config, search::config_model(model->spec())));
  return runtime::save_config(config, options.output);
}

Status export_json(const InspectOptions& options, const std::string& yaml) {
  if (!options.model.empty())
    return fail(Code::invalid_argument,
                fmt::format("model: found {}, expected none: {} says what it is for", options.model,
                            options.config));
  MI_TRY(const auto config, runtime::parse_config(yaml, options.config));
  const auto& known = config.calibration.lengths;
  int64_t length = known.empty() ? 0 : known.back();
  if (!options.lengths.empty()) {
    length = options.lengths.front();
    if (std::find(known.begin(), known.end(), length) == known.end())
      return fail(Code::invalid_argument,
                  fmt::format("length: found {}, expected {}, as {} is calibrated at", length,
                              known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")),
                              options.config));
  }
  const search::ReferenceText text = search::to_reference(config, length);
  MI_CHECK(runtime::write_file_atomically(options.output, text.json));
  for (const std::string& lost : text.lost)
    print_note(fmt::format("{}: not carried: {}\n", kInspect, lost));
  return {};
}

}  // namespace

Status run_convert(const InspectOptions& options) {
  MI_CHECK(check_outputs({options.output}, {options.config, options.model}));
  MI_CHECK(runtime::check_writable(options.output));
  MI_CHECK(check_no_report(options.config));
  MI_TRY(const std::string text, search::read_text_file(options.config));
  constexpr std::string_view kMark = "\xef\xbb\xbf";  // U+FEFF, which some editors write first
  const size_t begin = text.starts_with(kMark) ? kMark.size() : 0;
  const size_t first = text.find_first_not_of(" \t\r\n", begin);
  const bool json = first != std::string::npos && text[first] == '[';
  return json ? import(options, text) : export_json(options, text);
}

}  // namespace mi::tools
