// The options that say what to make of scores: of mi-search, and of mi-inspect pareto.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "libsearch/search/search.h"

namespace CLI {
class App;
}

namespace mi::tools {

struct LimitOptions {
  std::string budget;
  std::string device;  // empty: no profile, no times
  std::string allocate = "global";
  std::string objective = "error";
  std::optional<double> min_recall;
  bool strict = false;
};

void add_limit_options(CLI::App& app, LimitOptions& options);
// Sets limit, objective, allocation, device and description.
[[nodiscard]] Status read_limit_options(const LimitOptions& options, search::SearchOptions& result);
// Whether --device, where it is given, was measured on the backend that `what` is for.
[[nodiscard]] Status check_device(const LimitOptions& options, const search::SearchOptions& asked,
                                  std::string_view what, std::string_view backend);

}  // namespace mi::tools
