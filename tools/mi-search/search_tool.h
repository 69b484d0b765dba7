// What mi-search is asked to do, and the doing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/limit_options.h"

namespace mi::tools {

inline constexpr std::string_view kSearch = "mi-search";

struct SearchToolOptions {
  std::string model;
  std::vector<std::string> captures;  // instead of a model and samples
  LimitOptions limit;
  std::string output;              // empty: the model's name with the budget, .yaml
  std::string report;              // empty: the output's name, .report.h5
  std::string recipe;              // empty: calib_data/default.yaml
  std::vector<std::string> texts;  // instead of a recipe
  std::string tokens;              // instead of a recipe
  std::vector<int64_t> lengths;    // empty: the recipe's
  std::string candidates;          // empty: the default space
  uint64_t seed = 0;
  int threads = 0;      // 0: all
  std::string backend;  // empty: MI_BACKEND or the best available
  std::string precision = "auto";
  bool resume = false;
  int64_t chunk = 0;  // of the certificate's prefill; 0: whole
  bool dry_run = false;
  bool json = false;
};

// The exit code.
int run_search(const SearchToolOptions& options);

}  // namespace mi::tools
