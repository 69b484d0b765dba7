#include <unistd.h>

#include <fmt/format.h>

#include "libruntime/config.h"
#include "libsearch/report/text.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

Result<bool> print_diff(const InspectOptions& options) {
  MI_TRY(const auto a, runtime::load_config(options.config));
  MI_TRY(const auto b, runtime::load_config(options.other));
  const auto model = [](const runtime::HeadConfig::Model& m) {
    return fmt::format("{} ({:.15}), {} layers x {} heads", m.name, m.fingerprint, m.layers,
                       m.heads);
  };
  if (a.model.fingerprint != b.model.fingerprint || a.model.layers != b.model.layers ||
      a.model.heads != b.model.heads)
    return fail(Code::schema,
                fmt::format("{}: model: found {}, expected {} as in {}", options.other,
                            model(b.model), model(a.model), options.config));
  const Terminal out = terminal(STDOUT_FILENO);
  MI_CHECK(print_result(options.json ? search::diff_json(a, b)
                                     : search::diff_table(a, b, {out.width, out.colour})));
  return a.kernel == b.kernel && search::different_heads(a, b).empty();
}

}  // namespace

int run_diff(const InspectOptions& options) {
  const auto same = print_diff(options);
  if (!same) return report(kInspect, same.error());
  return *same ? kExitDone : kExitFailed;
}

}  // namespace mi::tools
