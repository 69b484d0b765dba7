// An evaluation for a person at a terminal, and as JSON for machines.
#pragma once

#include <cstdint>
#include <string>

#include "libruntime/config.h"
#include "libsearch/eval/evaluate.h"
#include "libsearch/report/text.h"

namespace mi::search {

// What was run, for the heading.
struct EvalHeading {
  std::string config_file;
  const runtime::HeadConfig* config = nullptr;
  int64_t context = 0;  // positions the model was trained on
  std::string element;  // "bf16"
  std::string backend;
  int threads = 1;
  std::string texts;  // names of the files that the windows and the hay are from
  bool decoded = false;
  int64_t chunk = 0;  // tokens per prefill call; 0: whole prompts
};

[[nodiscard]] std::string eval_table(const EvalHeading& heading, const Evaluation& evaluation,
                                     TextStyle style);
[[nodiscard]] std::string eval_json(const EvalHeading& heading, const Evaluation& evaluation);

}  // namespace mi::search
