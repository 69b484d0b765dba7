// The options of mi-inspect and its subcommands.
#include <CLI/CLI.hpp>

#include "tools/mi-inspect/commands.h"
#include "tools/number_check.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

void add_show(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "show", "Model, limit, pattern mix per layer, recall, worst heads and certificate");
  command->add_option("config", options.config, "Head-config (YAML)")->required();
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { run = [&] { return report(kInspect, run_show(options)); }; });
}

void add_heads(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command =
      app.add_subcommand("heads", "One line per head: pattern, parameters and recall");
  command->add_option("config", options.config, "Head-config (YAML)")->required();
  command
      ->add_option("--sort", options.sort,
                   "Layer by layer, by recall (worst first) or by share (dearest first)")
      ->check(CLI::IsMember({"place", "recall", "share"}))
      ->capture_default_str();
  command->add_option("--pattern", options.pattern, "Only heads that run this pattern");
  command->add_option("--below", options.below, "Only heads whose recall is below this")
      ->check(number_between(0, 1));
  CLI::Option* json = command->add_flag("--json", options.json, "Print JSON");
  command->add_flag("--csv", options.csv, "Print CSV, a line per head and calibrated length")
      ->excludes(json);
  command->callback([&] { run = [&] { return report(kInspect, run_heads(options)); }; });
}

void add_head(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "head", "One head by a score report: figures by length and sample, its other candidates");
  command->add_option("report", options.report, "Score report (written by mi-search)")->required();
  command->add_option("config", options.config, "Head-config made from it")->required();
  command->add_option("heads", options.heads, "LAYER.HEAD ...")->required();
  command->add_option("--length", options.length,
                      "Chart the candidates at this calibrated length (default: where the head "
                      "keeps least)");
  command->callback([&] { run = [&] { return report(kInspect, run_head(options)); }; });
}

void add_diff(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand("diff",
                                         "Two head-configs of one model: figures and what runs "
                                         "otherwise; exit code 1 if anything does");
  command->add_option("a", options.config, "Head-config (YAML)")->required();
  command->add_option("b", options.other, "Head-config (YAML)")->required();
  command
      ->add_option("--heads", options.heads,
                   "LAYER.HEAD,...: only these heads, also where they run the same")
      ->delimiter(',');
  command->add_option("--sort", options.sort, "Layer by layer, or by recall gained (most first)")
      ->check(CLI::IsMember({"place", "gain"}))
      ->capture_default_str();
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { run = [&] { return run_diff(options); }; });
}

void add_validate(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "validate", "Whether files are head-configs that the runtime takes: exit code 3 if not");
  command->add_option("configs", options.configs, "Head-configs (YAML)")->required();
  command->add_option("--model", options.model,
                      "Hugging Face directory or GGUF file that they must be made for");
  command->callback([&] { run = [&] { return run_validate(options); }; });
}

void add_convert(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "convert", "A head-config from the published implementation's JSON, or that JSON from one");
  command->add_option("file", options.config, "JSON or head-config (YAML)")->required();
  command->add_option("--model", options.model,
                      "Hugging Face directory or GGUF file that the JSON is for");
  command
      ->add_option("--length", options.lengths,
                   "Prompt length whose parameters the JSON has (default: the longest calibrated)")
      ->expected(1)
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("-o,--output", options.output, "File to write")->required();
  command->callback([&] { run = [&] { return report(kInspect, run_convert(options)); }; });
}

void add_pareto(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "pareto", "From a score report: what every budget gives, or the head-config of one");
  command->add_option("report", options.report, "Score report (written by mi-search)")->required();
  add_limit_options(*command, options.limit);
  command
      ->add_option("--lengths", options.lengths,
                   "Prompt lengths to allocate for (default: all of the report)")
      ->delimiter(',');
  command->add_option("-o,--output", options.output, "Head-config to write");
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { run = [&] { return report(kInspect, run_pareto(options)); }; });
}

void add_verify(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "verify",
      "A head-config on your texts, beside dense attention: exit code 1 where it misses "
      "a bound");
  command->add_option("config", options.config, "Head-config (YAML)")->required();
  command->add_option("--model", options.model, "Hugging Face directory or GGUF file")->required();
  command->add_option("--text", options.texts, "Text files; of each its first tokens are read")
      ->required();
  command
      ->add_option("--lengths", options.lengths,
                   "Prompt lengths in tokens (default: the config's calibrated ones)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{128}, int64_t{1} << 24));
  command
      ->add_option("--min-recall", options.least_recall,
                   "Least mean recall of attention mass, such as 0.9")
      ->check(number_between(0, 1));
  command
      ->add_option("--max-kl", options.most_kl,
                   "Most KL(dense, sparse) of the next token in nats, such as 0.05")
      ->check(number_between(0, 1e6));
  command
      ->add_option("--chunk", options.chunk,
                   "Prefill so many tokens at a time (default: prompts as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command->add_option("--threads", options.threads, "Threads (default: all)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--backend", options.backend,
                      "cpu_avx512, cpu_avx2, cpu_generic or reference (default: the fastest here)");
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { run = [&] { return report(kInspect, run_verify(options)); }; });
}

void add_capture(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "capture", "Checks captures of q, k and v for mi-search --capture, and describes them");
  command->add_option("captures", options.configs, "Captures (HDF5)")->required();
  command->callback([&] { run = [&] { return run_capture(options); }; });
}

void add_html(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "html",
      "A score report and a head-config as one HTML file: heatmaps, every head's candidates");
  command->add_option("report", options.report, "Score report (written by mi-search)")->required();
  command->add_option("config", options.config,
                      "Head-config made from it; else one is allocated by --budget");
  add_limit_options(*command, options.limit);
  command
      ->add_option("--heads", options.heads,
                   "LAYER.HEAD,...: of models with more than 400 heads, whose candidates to draw "
                   "besides those of the worst 64")
      ->delimiter(',');
  command->add_option("-o,--output", options.output, "HTML file to write")->required();
  command->callback([&] { run = [&] { return report(kInspect, run_html(options)); }; });
}

}  // namespace

void add_commands(CLI::App& app, InspectOptions& options, std::function<int()>& run) {
  add_show(app, options, run);
  add_heads(app, options, run);
  add_head(app, options, run);
  add_diff(app, options, run);
  add_validate(app, options, run);
  add_convert(app, options, run);
  add_pareto(app, options, run);
  add_verify(app, options, run);
  add_html(app, options, run);
  add_capture(app, options, run);
}

}  // namespace mi::tools
