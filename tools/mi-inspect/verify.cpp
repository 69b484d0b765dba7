// The certificate of a head-config on texts of the user's choice, as a gate: exit code 1 where it
// misses a bound.
#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "libruntime/config.h"
#include "libsearch/eval/tasks.h"
#include "libsearch/report/paint.h"
#include "libsearch/search/planned_attention.h"
#include "libsearch/search/verify.h"
#include "tools/mi-inspect/commands.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

namespace fs = std::filesystem;

// Of each text one window of every length: from its begin.
Result<std::vector<search::Sample>> windows_of(const InspectOptions& options,
                                               const std::vector<int64_t>& lengths,
                                               const search::Tokenizer& tokenizer) {
  std::vector<search::Sample> samples;
  for (const std::string& path : options.texts) {
    search::SampleSpec text;
    text.kind = "text";
    text.texts = {path};
    for (const int64_t length : lengths) {
      MI_TRY(auto windows, search::text_windows(text, length, 1, tokenizer));
      windows.front().source = fs::path(path).filename().string();
      samples.push_back(std::move(windows.front()));
    }
  }
  return samples;
}

std::string table(const std::vector<search::Sample>& samples,
                  const std::vector<search::SampleVerdict>& verdicts, const runtime::HeldOut& found,
                  const std::optional<runtime::HeldOut>& said) {
  size_t widest = 12;
  std::vector<std::string> names;  // of files, which may hold what drives a terminal
  for (const search::Sample& sample : samples) {
    names.push_back(search::printable(sample.source));
    widest = std::max(widest, names.back().size());
  }
  const auto line = [&](std::string_view name, std::string_view tokens, double recall, double kl,
                        double top, std::string_view executed) {
    return fmt::format("{:<{}}{:>8}{:>9.4f}{:>11.4g}{:>9.2f} %{:>11}\n", name, widest + 1, tokens,
                       recall, kl, 100 * top, executed);
  };
  std::string text = fmt::format("{:<{}}{:>8}{:>9}{:>11}{:>11}{:>11}\n", "", widest + 1, "tokens",
                                 "recall", "KL", "same top", "executed");
  for (size_t s = 0; s < samples.size(); ++s)
    text += line(names[s], std::to_string(samples[s].length()), verdicts[s].recall, verdicts[s].kl,
                 verdicts[s].top1, fmt::format("{:.2f} %", 100 * verdicts[s].share));
  text += line("all", "", found.recall_mean, found.logit_kl, found.top1_agreement, "");
  if (said)
    text += line("certificate", "", said->recall_mean, said->logit_kl, said->top1_agreement, "");
  return text;
}

// What the runtime says of these prompts, each once, and whether the bounds judge any sparse head.
std::vector<std::string> notes_of(const std::vector<search::SampleVerdict>& verdicts) {
  constexpr double kAll = 1 - 1e-9;  // a mean of ones
  std::vector<std::string> notes;
  bool all_dense = true;
  for (const search::SampleVerdict& verdict : verdicts) {
    all_dense = all_dense && verdict.share >= kAll;
    for (const std::string& note : verdict.notes)
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
  }
  if (all_dense) notes.emplace_back("every prompt ran dense: nothing sparse was judged");
  return notes;
}

Status check_bounds(const InspectOptions& options, const runtime::HeldOut& found) {
  if (options.least_recall && !(found.recall_mean >= *options.least_recall))
    return fail(Code::unsupported, fmt::format("recall: found {:.4f}, expected at least {}",
                                               found.recall_mean, *options.least_recall));
  if (options.most_kl && !(found.logit_kl <= *options.most_kl))
    return fail(Code::unsupported,
                fmt::format("KL: found {:.4g} nats per token, expected at most {}", found.logit_kl,
                            *options.most_kl));
  return {};
}

}  // namespace

Status run_verify(const InspectOptions& options) {
  MI_TRY(const auto config, load_head_config(options.config));
  search::ComputeOptions compute;
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(options.backend));
  compute.backend = &backend->f32();
  compute.threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  compute.chunk = options.chunk;
  omp_set_num_threads(compute.threads);
  MI_TRY(const auto model, search::Model::open(options.model));
  MI_CHECK(search::check_config_model(config, model->spec(), options.config));
  if (model->tokenizer() == nullptr) return fail(Code::unsupported, model->tokenizer_status().what);
  const auto& lengths = options.lengths.empty() ? config.calibration.lengths : options.lengths;
  if (lengths.empty())
    return fail(Code::invalid_argument,
                options.config + ": names no calibrated lengths; --lengths gives some");
  MI_TRY(const auto samples, windows_of(options, lengths, *model->tokenizer()));
  std::vector<search::SampleVerdict> verdicts;
  {
    Progress progress;
    const auto show = [&](std::string_view stage, double fraction) {
      progress.update(stage, fraction);
    };
    MI_TRY(search::Verified verified, search::verify(*model, config, samples, compute, show));
    verdicts = std::move(verified.verdicts);
  }
  const runtime::HeldOut found = search::summarize(verdicts);
  const std::vector<std::string> notes = notes_of(verdicts);
  for (const std::string& note : notes) print_note(fmt::format("{}: note: {}\n", kInspect, note));
  std::string text;
  if (options.json) {
    nlohmann::ordered_json json = {{"recall", found.recall_mean},
                                   {"logit_kl", found.logit_kl},
                                   {"top1_agreement", found.top1_agreement},
                                   {"notes", notes},
                                   {"samples", nlohmann::ordered_json::array()}};
    for (size_t s = 0; s < samples.size(); ++s)
      json["samples"].push_back({{"source", samples[s].source},
                                 {"tokens", samples[s].length()},
                                 {"recall", verdicts[s].recall},
                                 {"logit_kl", verdicts[s].kl},
                                 {"top1_agreement", verdicts[s].top1},
                                 {"executed", verdicts[s].share}});
    text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  } else {
    text = table(samples, verdicts, found, config.quality.held_out);
  }
  MI_CHECK(print_result(text));
  return check_bounds(options, found);
}

}  // namespace mi::tools
