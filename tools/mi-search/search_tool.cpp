#include "tools/mi-search/search_tool.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "libruntime/atomic_file.h"
#include "libsearch/model/capture.h"
#include "libsearch/report/paint.h"
#include "libsearch/report/report_file.h"
#include "libsearch/report/text.h"
#include "libsearch/search/forward_device.h"
#include "libsearch/search/gates.h"
#include "libsearch/search/predict.h"
#include "libsearch/search/search.h"
#include "tools/outputs.h"
#include "tools/progress.h"
#include "tools/precision.h"
#include "tools/words.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

namespace fs = std::filesystem;
using search::Sample;

struct Samples {
  std::vector<Sample> calibration;
  std::vector<Sample> held_out;
};

// Token ids of the user's own: prefixes calibrate; what follows the longest of them certifies.
Result<Samples> samples_from_tokens(const SearchToolOptions& options,
                                    const search::ModelSpec& spec) {
  Samples samples;
  MI_TRY(const auto ids, search::load_token_ids(options.tokens, spec.vocab));
  const std::string source = "tokens " + fs::path(options.tokens).filename().string();
  std::vector<int64_t> lengths = options.lengths;
  if (lengths.empty()) {
    lengths = {static_cast<int64_t>(ids.size() / 2)};
    if (lengths[0] < 128)
      return fail(Code::schema, fmt::format("{}: found {} token ids, expected at least 256",
                                            options.tokens, ids.size()));
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  for (const int64_t length : lengths) {
    MI_TRY(auto first, search::sample_from_ids(ids, 0, length, source));
    samples.calibration.push_back(std::move(first));
    if (static_cast<int64_t>(ids.size()) < longest + length) continue;
    MI_TRY(auto second, search::sample_from_ids(ids, longest, length, source));
    samples.held_out.push_back(std::move(second));
  }
  return samples;
}

// Empty where texts, token ids or captures are given instead.
std::string recipe_file(const SearchToolOptions& options) {
  if (!options.tokens.empty() || !options.texts.empty() || !options.captures.empty()) return "";
  return options.recipe.empty() ? MI_CALIB_DATA "/default.yaml" : options.recipe;
}

// The user's own texts, or the recipe's; not read where token ids or captures are given.
Result<search::Recipe> recipe_of(const SearchToolOptions& options) {
  if (!options.tokens.empty() || !options.captures.empty()) return search::Recipe();
  if (!options.texts.empty()) {
    const std::vector<fs::path> texts(options.texts.begin(), options.texts.end());
    return search::recipe_from_texts(
        texts, options.lengths.empty() ? std::vector<int64_t>{4096} : options.lengths);
  }
  MI_TRY(search::Recipe recipe, search::load_recipe(recipe_file(options)));
  if (!options.lengths.empty()) recipe.lengths = options.lengths;
  std::sort(recipe.lengths.begin(), recipe.lengths.end());
  return recipe;
}

std::vector<fs::path> inputs_of(const SearchToolOptions& options, const search::Recipe& recipe) {
  std::vector<fs::path> inputs = {options.model, options.tokens, recipe_file(options),
                                  options.candidates, options.limit.device};
  inputs.insert(inputs.end(), options.captures.begin(), options.captures.end());
  for (const auto* specs : {&recipe.calibration, &recipe.held_out})
    for (const search::SampleSpec& spec : *specs)
      inputs.insert(inputs.end(), spec.texts.begin(), spec.texts.end());
  return inputs;
}

Result<Samples> make_samples(const SearchToolOptions& options, const search::Recipe& recipe,
                             const search::Model& model) {
  if (!options.tokens.empty()) return samples_from_tokens(options, model.spec());
  if (model.tokenizer() == nullptr) {
    Status why = model.tokenizer_status();
    return fail(why ? Code::unsupported : why.code,
                fmt::format("{}; --tokens takes token ids instead", why.what));
  }
  Samples samples;
  for (const int64_t length : std::set<int64_t>(recipe.lengths.begin(), recipe.lengths.end())) {
    for (const auto& spec : recipe.calibration) {
      MI_TRY(auto sample, search::make_sample(spec, length, options.seed, *model.tokenizer()));
      samples.calibration.push_back(std::move(sample));
    }
    for (const auto& spec : recipe.held_out) {
      MI_TRY(auto sample, search::make_sample(spec, length, options.seed, *model.tokenizer()));
      samples.held_out.push_back(std::move(sample));
    }
  }
  return samples;
}

struct Input {
  std::unique_ptr<search::Model> model;
  Samples samples;
};

Result<Input> open_input(const SearchToolOptions& options, const search::Recipe& recipe) {
  Input input;
  if (!options.captures.empty()) {
    const std::vector<fs::path> paths(options.captures.begin(), options.captures.end());
    MI_TRY(search::Captured captured, search::open_captures(paths));
    input.model = std::move(captured.model);
    input.samples.calibration = std::move(captured.samples);
    return input;
  }
  MI_TRY(input.model, search::Model::open(options.model));
  MI_TRY(input.samples, make_samples(options, recipe, *input.model));
  return input;
}

// The options that decide what is scored.
Result<std::string> describe_scoring(const SearchToolOptions& options, runtime::Element element) {
  Words words;
  for (const auto& capture : options.captures) MI_CHECK(words.add_file("--capture", capture));
  MI_CHECK(words.add_file("--recipe", options.recipe));
  for (const auto& text : options.texts) MI_CHECK(words.add_file("--text", text));
  MI_CHECK(words.add_file("--tokens", options.tokens));
  words.add("--lengths", fmt::format("{}", fmt::join(options.lengths, ",")));
  MI_CHECK(words.add_file("--candidates", options.candidates));
  words.add("--precision", element == runtime::Element::bf16 ? "bf16" : "f32", "f32");
  return words.text();
}

bool may_use_device(const SearchToolOptions& options) {
  return options.backend == "cuda" || options.backend == "auto";
}

// With --backend auto: what is taken, and why.
void tell_backend(const std::string& text) {
  print_note(fmt::format("{}: backend {}\n", kSearch, text));
}

// What runs the dense passes; null: this CPU.
Result<std::unique_ptr<search::ForwardDevice>> open_device(const SearchToolOptions& options) {
  if (!may_use_device(options)) return nullptr;
  if (options.precision == "f32" && options.backend == "cuda")
    return fail(Code::invalid_argument,
                "--precision f32: dense passes on a CUDA device are bf16; expected bf16 or auto");
  if (options.precision == "f32") {
    tell_backend("of this CPU: --precision f32");
    return nullptr;
  }
  auto device = search::open_cuda();
  if (options.backend == "cuda") return device;
  if (!device) {
    tell_backend("of this CPU: " + device.error().what);
    return nullptr;
  }
  tell_backend("cuda: " + (*device)->name());
  return device;
}

Result<search::SearchOptions> search_options(const SearchToolOptions& options,
                                             const search::ForwardDevice* device) {
  search::SearchOptions result;
  MI_CHECK(read_limit_options(options.limit, result));
  const auto chosen = kernels::choose_backend(may_use_device(options) ? "" : options.backend);
  if (!chosen && chosen.error().code == Code::invalid_argument)
    return fail(chosen.error().code, chosen.error().what + ", cuda, auto");
  MI_TRY(const kernels::Backend* backend, chosen);
  result.compute.device = device;
  result.compute.element = runtime::Element::bf16;
  if (device == nullptr) {
    MI_TRY(result.compute.element, choose_element(options.precision, *backend));
  }
  result.compute.backend =
      result.compute.element == runtime::Element::bf16 ? backend : &backend->f32();
  MI_CHECK(check_device(options.limit, result, "this search",
                        device != nullptr ? "cuda" : backend->name()));
  result.compute.threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  result.seed = options.seed;
  result.compute.chunk = options.chunk;
  if (options.chunk > 0) result.description += fmt::format(" --chunk {}", options.chunk);
  MI_TRY(result.scoring, describe_scoring(options, result.compute.element));
  if (!options.candidates.empty()) {
    MI_TRY(result.space, search::load_candidates(options.candidates));
  }
  return result;
}

fs::path output_path(const SearchToolOptions& options) {
  if (!options.output.empty()) return options.output;
  fs::path model =
      fs::path(options.captures.empty() ? options.model : options.captures[0]).lexically_normal();
  if (!model.has_filename()) model = model.parent_path();
  std::string name = fs::is_directory(model) ? model.filename().string() : model.stem().string();
  std::string budget = options.limit.budget.empty() ? "min-recall" : options.limit.budget;
  std::replace(budget.begin(), budget.end(), '%', 'p');
  return name + "-" + budget + ".yaml";
}

fs::path report_path(const SearchToolOptions& options) {
  if (!options.report.empty()) return options.report;
  return output_path(options).replace_extension(".report.h5");
}

// What --resume goes on from: the unfinished report, else the finished one; nothing if there is
// neither.
Result<std::optional<search::ScoreReport>> earlier_report(const fs::path& part,
                                                          const fs::path& whole) {
  for (const fs::path& path : {part, whole}) {
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    MI_TRY(search::ScoreReport report, search::load_report(path));
    print_note(fmt::format("{}: {} of {} samples are scored in {}\n", kSearch,
                           report.table.samples.size(), report.samples.size(), path.string()));
    return std::optional(std::move(report));
  }
  return std::optional<search::ScoreReport>();
}

// A search that begins anew says so where an earlier one left scores.
void hint_resume(const fs::path& part) {
  std::error_code error;
  if (!fs::exists(part, error)) return;
  if (const auto report = search::load_report(part))
    print_note(fmt::format("{}: {} of {} samples are scored in {}: --resume goes on from them\n",
                           kSearch, report->table.samples.size(), report->samples.size(),
                           part.string()));
}

int64_t longest_of(const Samples& samples) {
  int64_t longest = 0;
  for (const auto* set : {&samples.calibration, &samples.held_out})
    for (const Sample& sample : *set) longest = std::max(longest, sample.length());
  return longest;
}

Status dry_run(const search::Model& model, const Samples& samples,
               const search::SearchOptions& options, const fs::path& output,
               const fs::path& report) {
  const auto warnings = search::sample_warnings(samples.calibration, samples.held_out);
  MI_CHECK(search::check_warnings(warnings, options.strict));
  std::vector<int64_t> lengths[2];
  for (const Sample& sample : samples.calibration) lengths[0].push_back(sample.length());
  for (const Sample& sample : samples.held_out) lengths[1].push_back(sample.length());
  MI_TRY(const search::Prediction prediction,
         search::predict(model, samples.calibration.front(), lengths[0], lengths[1], options));
  const search::ModelSpec& spec = model.spec();
  std::string text = fmt::format(
      "model       {} ({}, {} layers, {} heads, {} KV heads, head dim {})\n"
      "backend     {}, {} threads, dense pass in {}\n"
      "candidates  {} per head in {} families\n",
      spec.name, spec.architecture, spec.layers, spec.heads, spec.kv_heads, spec.head_dim,
      options.compute.layers_by(), options.compute.threads,
      options.compute.element == runtime::Element::bf16 ? "bf16" : "f32",
      options.space.candidates(), options.space.families.size());
  for (const auto* set : {&samples.calibration, &samples.held_out})
    for (const Sample& sample : *set)
      text += fmt::format("{:<11} {} ({} tokens)\n",
                          set == &samples.calibration ? "calibrate" : "certify",
                          search::printable(sample.source), sample.length());
  for (const std::string& warning : warnings) text += fmt::format("warning     {}\n", warning);
  text += fmt::format(
      "time        about {} to search, {} to certify (from two short passes)\n"
      "memory      about {:.2f} GB at the longest sample\n"
      "would write {} and {}\n",
      duration_text(prediction.search_seconds), duration_text(prediction.verify_seconds),
      prediction.peak_bytes / 1e9, output.string(), report.string());
  return print_result(text);
}

std::string timing_text(const search::SearchResult& result) {
  const double search = result.forward_seconds + result.score_seconds + result.allocate_seconds;
  return fmt::format(
      "search {:.1f} s, of which dense forward passes {:.1f} s (ratio {:.2f}); "
      "certificate {:.1f} s; peak memory {:.2f} GB\n",
      search, result.forward_seconds, search / result.forward_seconds, result.verify_seconds,
      static_cast<double>(search::peak_memory()) / 1e9);
}

std::string predicted_text(const search::SearchResult& result,
                           const search::DeviceProfile& device) {
  std::string times;
  for (const search::PredictedTime& at : result.predicted)
    times += fmt::format("{}{:.1f} ms at {} (dense {:.1f})", times.empty() ? "" : ", ", at.ms,
                         at.length, at.dense_ms);
  return fmt::format("predicted attention of one prefill, {} and {} threads: {}\n", device.backend,
                     device.threads, times);
}

Status run(const SearchToolOptions& asked) {
  MI_TRY(std::unique_ptr<search::ForwardDevice> device, open_device(asked));
  MI_TRY(search::SearchOptions options, search_options(asked, device.get()));
  omp_set_num_threads(options.compute.threads);
  const fs::path output = output_path(asked);
  const fs::path whole = report_path(asked);
  const fs::path part = whole.string() + ".part";
  if (runtime::is_same_file(whole, output) || runtime::is_same_file(part, output))
    return fail(Code::invalid_argument,
                fmt::format("report: got {}, expected another file than the head-config's",
                            whole.string()));
  MI_TRY(const search::Recipe recipe, recipe_of(asked));
  MI_CHECK(check_outputs({output, whole, part}, inputs_of(asked, recipe)));
  MI_CHECK(runtime::check_writable(output));
  MI_CHECK(runtime::check_writable(whole));
  MI_CHECK(runtime::check_writable(part));
  MI_TRY(const Input input, open_input(asked, recipe));
  const auto& [model, samples] = input;
  if (Status runs = device ? device->check(*model) : Status{}; !runs) {
    if (asked.backend == "cuda") return runs;
    tell_backend("of this CPU: " + runs.what);
    device.reset();
    MI_TRY(options, search_options(asked, nullptr));
  }
  const int64_t longest = longest_of(samples);
  if (longest > model->spec().context)
    print_note(
        fmt::format("{}: note: samples of {} tokens are past the {} that {} was trained on\n",
                    kSearch, longest, model->spec().context, model->spec().name));
  MI_CHECK(search::check_feasible(model->spec(), options, samples.calibration));
  if (asked.dry_run) return dry_run(*model, samples, options, output, whole);

  std::optional<search::ScoreReport> earlier;
  if (asked.resume) {
    MI_TRY(earlier, earlier_report(part, whole));
  } else {
    hint_resume(part);
  }
  search::SearchResult result;
  {
    Progress progress;
    const auto show = [&](std::string_view stage, double fraction) {
      progress.update(stage, fraction);
    };
    const search::SearchRecord record{
        .scored = [&](const search::ScoreReport& report) { return save_report(report, part); },
        .earlier = earlier ? &*earlier : nullptr};
    MI_TRY(result,
           search::search(*model, samples.calibration, samples.held_out, options, show, record));
  }
  // A search that fails leaves an earlier report as it was; one that goes on from a finished report
  // may have nothing to add.
  std::error_code error;
  if (fs::exists(part, error)) fs::rename(part, whole, error);
  if (error)
    return fail(Code::io, fmt::format("{}: cannot be renamed to {}: {}", part.string(),
                                      whole.string(), error.message()));
  MI_CHECK(runtime::save_config(result.config, output));
  if (options.device) {
    const auto* times = search::find_times(*options.device, model->spec().head_dim);
    if (times->dense_below > result.config.kernel.dense_below)
      print_note(fmt::format(
          "{}: note: on {} dense attention is as fast below {} tokens, but prompts from {}, the "
          "shortest calibrated length, run sparse\n",
          kSearch, asked.limit.device, times->dense_below, result.config.kernel.dense_below));
  }
  const Terminal out = terminal(STDOUT_FILENO);
  std::string text;
  if (asked.json) {
    auto json = nlohmann::json::parse(search::show_json(result.config));
    json["seconds"] = {{"forward", result.forward_seconds},
                       {"score", result.score_seconds},
                       {"allocate", result.allocate_seconds},
                       {"verify", result.verify_seconds}};
    for (const search::PredictedTime& at : result.predicted)
      json["predicted_ms"][std::to_string(at.length)] = {{"sparse", at.ms}, {"dense", at.dense_ms}};
    json["output"] = output.string();
    json["report"] = whole.string();
    text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  } else {
    text = search::show_table(result.config, {out.width, out.colour}) + "\n";
    if (options.device) text += predicted_text(result, *options.device);
    text += timing_text(result) + fmt::format("wrote {} and {}\n", output.string(), whole.string());
  }
  return print_result(text);
}

}  // namespace

int run_search(const SearchToolOptions& options) {
  return report(kSearch, run(options));
}

}  // namespace mi::tools
