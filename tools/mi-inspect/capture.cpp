#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "libsearch/model/capture.h"
#include "libsearch/report/paint.h"
#include "tools/mi-inspect/commands.h"
#include "tools/terminal.h"

namespace mi::tools {
namespace {

// Root mean square of all numbers of a tensor.
double rms(TensorView<const float, 3> x) {
  double sum = 0;
  for (int64_t h = 0; h < x.extent[0]; ++h)
    for (int64_t i = 0; i < x.extent[1]; ++i)
      for (int64_t d = 0; d < x.extent[2]; ++d)
        sum += static_cast<double>(x[h][i][d]) * static_cast<double>(x[h][i][d]);
  return std::sqrt(sum / static_cast<double>(x.extent[0] * x.extent[1] * x.extent[2]));
}

Status describe(const std::string& file) {
  const std::filesystem::path path = file;
  MI_TRY(const search::Captured captured, search::open_captures({&path, 1}));
  const search::ModelSpec& spec = captured.model->spec();
  const search::Sample& sample = captured.samples.front();
  double least[3] = {};
  double most[3] = {};
  bool has_residual = false;
  bool has_sinks = false;
  std::fill(std::begin(least), std::end(least), std::numeric_limits<double>::infinity());
  // Reads all of it, and so finds what is not finite.
  MI_TRY(
      [[maybe_unused]] const auto read,
      captured.model->forward(sample.ids,
                              [&](const search::LayerQkv& layer, TensorView<float, 3>) {
                                has_residual = layer.residual.data != nullptr;
                                has_sinks = !layer.sinks.empty();
                                const double found[] = {rms(layer.q), rms(layer.k), rms(layer.v)};
                                for (size_t i = 0; i < 3; ++i) {
                                  least[i] = std::min(least[i], found[i]);
                                  most[i] = std::max(most[i], found[i]);
                                }
                                return Status{};
                              },
                              {}));
  return print_result(fmt::format(
      "{}: a sound capture\n"
      "model    {} ({}, {} layers, {} heads, {} KV heads, head dim {})\n"
      "sample   {}, {} tokens\n"
      "scores   scale {:.4g}, {}, {}\n"
      "rms      q {:.3g} to {:.3g}, k {:.3g} to {:.3g}, v {:.3g} to {:.3g} over the layers\n"
      "{}{}",
      search::printable(file), search::printable(spec.name), search::printable(spec.architecture),
      spec.layers, spec.heads, spec.kv_heads, spec.head_dim, search::printable(sample.source),
      sample.length(), runtime::attention_scale(spec.scale, spec.head_dim),
      spec.softcap > 0 ? fmt::format("soft cap {:g}", spec.softcap) : "no soft cap",
      has_sinks ? "attention sinks" : "no attention sinks", least[0], most[0], least[1], most[1],
      least[2], most[2],
      has_residual ? "errors   those of a model: the stream and the output projection are there\n"
                   : "errors   relative to a head's own output: no stream, no output projection\n",
      spec.attention_layers.empty()
          ? ""
          : fmt::format("layers   the model's {}\n", fmt::join(spec.attention_layers, ", "))));
}

}  // namespace

int run_capture(const InspectOptions& options) {
  int worst = kExitDone;
  for (const std::string& file : options.configs)
    worst = std::max(worst, report(kInspect, describe(file)));
  return worst;
}

}  // namespace mi::tools
