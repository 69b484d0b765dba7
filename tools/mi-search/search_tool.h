// What mi-search is asked to do, and the doing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mi::tools {

inline constexpr std::string_view kSearch = "mi-search";

struct SearchToolOptions {
  std::string model;
  std::string budget;
  std::string device;              // empty: no profile, no times
  std::string output;              // empty: the model's name with the budget, .yaml
  std::string recipe;              // empty: calib_data/default.yaml
  std::vector<std::string> texts;  // instead of a recipe
  std::string tokens;              // instead of a recipe
  std::vector<int64_t> lengths;    // empty: the recipe's
  std::string allocate = "global";
  std::string objective = "error";
  std::optional<double> min_recall;
  std::string candidates;  // empty: the default space
  uint64_t seed = 0;
  int threads = 0;      // 0: all
  std::string backend;  // empty: MI_BACKEND or the best available
  std::string precision = "auto";
  bool strict = false;
  bool dry_run = false;
  bool json = false;
};

// The exit code.
int run_search(const SearchToolOptions& options);

}  // namespace mi::tools
