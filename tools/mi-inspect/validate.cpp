#include <fmt/format.h>

#include "libsearch/model/model.h"
#include "libsearch/report/paint.h"
#include "libsearch/search/planned_attention.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Status validate(const std::string& file, const search::Model* model) {
  MI_TRY(const auto config, load_head_config(file));
  if (model != nullptr) MI_CHECK(search::check_config_model(config, model->spec(), file));
  return print_result(fmt::format("{}: valid, {} layers x {} heads{}\n", search::printable(file),
                                  config.model.layers, config.model.heads,
                                  model != nullptr ? ", made for this model" : ""));
}

}  // namespace

int run_validate(const InspectOptions& options) {
  std::unique_ptr<search::Model> model;
  if (!options.model.empty()) {
    auto opened = search::Model::open(options.model);
    if (!opened) return report(kInspect, opened.error());
    model = std::move(*opened);
  }
  int worst = kExitDone;
  for (const std::string& file : options.configs)
    worst = std::max(worst, report(kInspect, validate(file, model.get())));
  return worst;
}

}  // namespace mi::tools
