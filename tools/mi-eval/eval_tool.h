// What mi-eval is asked to do, and the doing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mi::tools {

inline constexpr std::string_view kEval = "mi-eval";
inline constexpr std::string_view kPerplexityTask = "ppl";

struct EvalToolOptions {
  std::string config;
  std::string model;
  std::vector<std::string> tasks;          // empty: all; none with --infinitebench
  std::vector<int64_t> lengths;            // empty: those that the config was calibrated at
  int64_t count = 30;                      // questions per task and length, and windows
  int64_t depths = 10;                     // of the needle
  std::vector<std::string> texts;          // empty: the recipe's held-out ones
  std::string recipe;                      // empty: calib_data/default.yaml
  std::vector<std::string> infinitebench;  // JSONL files
  int64_t chunk = 0;                       // tokens per prefill call; 0: whole prompts
  bool decode = false;
  uint64_t seed = 0;
  int threads = 0;      // 0: all
  std::string backend;  // empty: MI_BACKEND or the best available
  std::string precision = "auto";
  bool json = false;
};

// The exit code.
int run_eval(const EvalToolOptions& options);

}  // namespace mi::tools
