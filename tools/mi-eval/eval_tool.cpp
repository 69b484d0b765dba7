#include "tools/mi-eval/eval_tool.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>
#include <omp.h>

#include "libsearch/eval/evaluate.h"
#include "libsearch/eval/report.h"
#include "libsearch/search/planned_attention.h"
#include "tools/progress.h"
#include "tools/precision.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

namespace fs = std::filesystem;

void note(std::string_view text) {
  print_note(fmt::format("{}: note: {}\n", kEval, text));
}

bool is_asked(const EvalToolOptions& options, std::string_view task) {
  if (options.tasks.empty()) return options.infinitebench.empty();
  return std::find(options.tasks.begin(), options.tasks.end(), task) != options.tasks.end();
}

// Rising, each once.
std::vector<int64_t> lengths_of(const EvalToolOptions& options, const runtime::HeadConfig& config) {
  const auto& given = options.lengths.empty() ? config.calibration.lengths : options.lengths;
  const std::set<int64_t> lengths(given.begin(), given.end());
  return {lengths.begin(), lengths.end()};
}

Result<search::SampleSpec> texts_of(const EvalToolOptions& options,
                                    const runtime::HeadConfig& config) {
  if (options.texts.empty()) {
    MI_TRY(const search::Recipe recipe,
           search::load_recipe(options.recipe.empty() ? MI_CALIB_DATA "/default.yaml"
                                                      : options.recipe));
    search::SampleSpec texts = search::held_out_texts(recipe);
    if (texts.texts.empty())
      return fail(Code::invalid_argument,
                  recipe.name + ": its held-out samples name no texts; --text FILE gives some");
    return texts;
  }
  search::SampleSpec texts;
  texts.kind = "text";
  for (const std::string& path : options.texts) {
    texts.texts.emplace_back(path);
    const std::string name = fs::path(path).filename().string();
    for (const auto& sample : config.calibration.samples)
      if (sample.source.find(name) != std::string::npos) {
        note(fmt::format("{} is one of the texts that {} was calibrated on, which flatters it",
                         name, options.config));
        break;
      }
  }
  return texts;
}

struct Prompts {
  std::vector<search::Sample> windows;
  std::vector<search::Cell> cells;
  std::string texts;  // names
};

Result<Prompts> make_prompts(const EvalToolOptions& options, const runtime::HeadConfig& config,
                             const search::Model& model) {
  const search::Tokenizer& tokenizer = *model.tokenizer();
  Prompts prompts;
  for (const std::string& file : options.infinitebench) {
    MI_TRY(const auto questions,
           search::load_infinitebench(file, static_cast<size_t>(options.count)));
    const int64_t longest = options.lengths.empty()
                                ? model.spec().context
                                : *std::max_element(options.lengths.begin(), options.lengths.end());
    MI_TRY(auto cell, search::infinitebench_cell(fs::path(file).stem().string(), questions, longest,
                                                 tokenizer));
    prompts.cells.push_back(std::move(cell));
  }
  if (options.tasks.empty() && !options.infinitebench.empty()) return prompts;

  const std::vector<int64_t> lengths = lengths_of(options, config);
  if (lengths.empty())
    return fail(Code::invalid_argument,
                options.config + ": names no calibrated lengths; --lengths gives some");
  if (lengths.back() > model.spec().context)
    note(fmt::format("prompts of {} tokens are past the {} that {} was trained on", lengths.back(),
                     model.spec().context, model.spec().name));
  MI_TRY(const search::SampleSpec texts, texts_of(options, config));
  for (const fs::path& path : texts.texts)
    prompts.texts += (prompts.texts.empty() ? "" : ", ") + path.filename().string();
  const auto more_text = [&](Status status) {
    if (status.code == Code::schema && options.texts.empty())
      status.what += "; --text FILE... gives other texts";
    return status;
  };
  if (is_asked(options, kPerplexityTask))
    for (const int64_t length : lengths) {
      auto windows = search::text_windows(texts, length, options.count, tokenizer);
      if (!windows) return fail(more_text(windows.error()));
      std::move(windows->begin(), windows->end(), std::back_inserter(prompts.windows));
    }
  search::TaskOptions asked;
  asked.count = options.count;
  asked.depths = options.depths;
  asked.seed = options.seed;
  for (const search::GeneratedTask& task : search::kGeneratedTasks) {
    if (!is_asked(options, task.name)) continue;
    for (const int64_t length : lengths) {
      auto cell = search::make_cell(task, length, texts, asked, tokenizer);
      if (!cell) return fail(more_text(cell.error()));
      prompts.cells.push_back(std::move(*cell));
    }
  }
  return prompts;
}

Status run(const EvalToolOptions& asked) {
  MI_TRY(const kernels::Backend* backend, kernels::choose_backend(asked.backend));
  search::EvalOptions options;
  options.decode = asked.decode;
  MI_TRY(options.compute.element, choose_element(asked.precision, *backend));
  const bool is_bf16 = options.compute.element == runtime::Element::bf16;
  options.compute.backend = is_bf16 ? backend : &backend->f32();
  options.compute.threads = asked.threads > 0 ? asked.threads : omp_get_max_threads();
  options.compute.chunk = asked.chunk;
  omp_set_num_threads(options.compute.threads);
  MI_TRY(const auto config, runtime::load_config(asked.config));
  MI_TRY(const auto model, search::Model::open(asked.model));
  MI_CHECK(search::check_config_model(config, model->spec(), asked.config));
  if (model->tokenizer() == nullptr) return fail(Code::unsupported, model->tokenizer_status().what);
  MI_TRY(const Prompts prompts, make_prompts(asked, config, *model));

  search::Evaluation evaluation;
  {
    Progress progress;
    MI_TRY(evaluation, search::evaluate(*model, config, prompts.windows, prompts.cells, options,
                                        [&](std::string_view stage, double fraction) {
                                          progress.update(stage, fraction);
                                        }));
  }
  for (const std::string& text : evaluation.notes) note(text);
  search::EvalHeading heading;
  heading.config_file = asked.config;
  heading.config = &config;
  heading.context = model->spec().context;
  heading.element = is_bf16 ? "bf16" : "f32";
  heading.backend = options.compute.backend->name();
  heading.threads = options.compute.threads;
  heading.texts = prompts.texts;
  heading.decoded = asked.decode;
  heading.chunk = asked.chunk;
  const Terminal out = terminal(STDOUT_FILENO);
  return print_result(asked.json
                          ? search::eval_json(heading, evaluation)
                          : search::eval_table(heading, evaluation, {out.width, out.colour}));
}

}  // namespace

int run_eval(const EvalToolOptions& options) {
  return report(kEval, run(options));
}

}  // namespace mi::tools
