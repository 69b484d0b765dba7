#include "tools/limit_options.h"

#include <filesystem>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/number_check.h"
#include "tools/words.h"

namespace mi::tools {

void add_limit_options(CLI::App& app, LimitOptions& options) {
  app.add_option("--budget", options.budget,
                 "Share of dense attention that may be executed: 15% or 0.15; with --device also "
                 "what the attention of one prefill, all layers, may take: 120ms or 0.12s");
  app.add_option("--device", options.device,
                 "Device profile (made by mi-bench fit): predicts times, and says below which "
                 "length prompts run dense");
  auto* allocate = app.add_option("--allocate", options.allocate, "How the budget is divided")
                       ->check(CLI::IsMember({"global", "per-head"}))
                       ->capture_default_str();
  app.add_option("--objective", options.objective,
                 "What is minimised: output error, squared or plain lost attention mass")
      ->check(CLI::IsMember({"error", "square", "mass"}))
      ->capture_default_str();
  auto* min_recall =
      app.add_option("--min-recall", options.min_recall,
                     "Least cost that keeps this recall in 95% of every head's row blocks; with "
                     "--budget, an error if that costs more")
          ->check(number_between(0, 1));
  min_recall->excludes(allocate);
  app.add_flag("--strict", options.strict,
               "Warnings (of samples that are short or repeat, of heads that lose too much) are "
               "errors: no head-config is written");
}

Status read_limit_options(const LimitOptions& options, search::SearchOptions& result) {
  if (!options.budget.empty()) {
    MI_TRY(result.limit_ms, search::parse_time(options.budget));
    if (!result.limit_ms) {
      MI_TRY(result.limit, search::parse_budget(options.budget));
    } else if (options.device.empty()) {
      return fail(Code::invalid_argument,
                  fmt::format("budget: \"{}\" needs a device profile: --device FILE, made by "
                              "mi-bench fit",
                              options.budget));
    }
  }
  if (!options.device.empty()) {
    MI_TRY(result.device, search::load_profile(options.device));
  }
  result.objective = *search::objective_from_string(options.objective);
  if (options.allocate == "per-head") result.allocation = search::AllocationMode::per_head;
  result.min_recall = options.min_recall;
  result.strict = options.strict;
  Words words;
  words.add("--budget", options.budget);
  MI_CHECK(words.add_file("--device", options.device));
  words.add("--allocate", options.allocate, "global");
  words.add("--objective", options.objective, "error");
  if (options.min_recall) words.add("--min-recall", fmt::format("{}", *options.min_recall));
  result.description = words.text();
  return {};
}

Status check_device(const LimitOptions& options, const search::SearchOptions& asked,
                    std::string_view what, std::string_view backend) {
  if (!asked.device || asked.device->backend == backend) return {};
  return fail(Code::invalid_argument,
              fmt::format("{}: measured on backend {}, {} is for {}", options.device,
                          asked.device->backend, what, backend));
}

}  // namespace mi::tools
