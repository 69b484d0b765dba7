// The headline and the tables of the HTML page.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "libsearch/report/html_chart.h"
#include "libsearch/report/html_page.h"

namespace mi::search {
namespace {

using runtime::HeadConfig;

std::string fact(std::string_view name, std::string_view value) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, value);
}

std::string certificate(const HeadConfig& config) {
  if (!config.quality.held_out)
    return "<p class=\"note\">Not certified: this config was not run on held-out samples. "
           "<code>mi-inspect verify CONFIG --model M --text FILE</code> measures what it does to "
           "the model.</p>\n";
  const runtime::HeldOut& held_out = *config.quality.held_out;
  return "<dl class=\"facts\">\n" +
         fact("KL(dense, sparse)", fmt::format("{:.4g} nats per token", held_out.logit_kl)) +
         fact("same top token", fmt::format("{:.2f} %", 100 * held_out.top1_agreement)) +
         fact("recall", fmt::format("{:.4f}", held_out.recall_mean)) +
         fact("output error",
              fmt::format("{:.4g} of the residual stream, squared", held_out.output_error)) +
         fact("executed", shares_by_length(held_out.achieved)) + "</dl>\n";
}

// Of a layer, or of all (-1); nothing where every head was edited.
std::optional<HeadFigures> mean_of(const HtmlPage& page, size_t t, int layer) {
  HeadFigures mean;
  double count = 0;
  for (const HeadView& view : page.heads) {
    if ((layer >= 0 && view.layer != layer) || view.chosen.empty()) continue;
    const HeadFigures& figures = view.figures[t];
    ++count;
    mean.recall += figures.recall;
    mean.recall_last += figures.recall_last;
    mean.share += figures.share;
    mean.recall_p05 = std::min(mean.recall_p05, figures.recall_p05);
    mean.recall_min = std::min(mean.recall_min, figures.recall_min);
  }
  if (count == 0) return std::nullopt;
  mean.recall /= count;
  mean.recall_last /= count;
  mean.share /= count;
  return mean;
}

Chart layer_chart(const HtmlPage& page, bool of_recall) {
  Chart chart;
  chart.id = of_recall ? "layer-recall" : "layer-cost";
  chart.title = of_recall ? "Mean recall by layer" : "Mean cost share by layer";
  chart.description = "One line per calibrated length; the table below has the numbers.";
  chart.x_name = "layer";
  chart.y_name = of_recall ? "recall, mean" : "cost, % of dense";
  chart.whole_x = true;
  for (size_t t = 0; t < page.lengths.size(); ++t) {
    auto& series = chart.series.emplace_back();
    for (int layer = 0; layer < page.config.model.layers; ++layer) {
      const auto mean = mean_of(page, t, layer);
      if (!mean) continue;
      const double value = of_recall ? mean->recall : 100 * mean->share;
      series.points.push_back(
          {static_cast<double>(layer), value,
           fmt::format("layer {}, {} tokens: {:.4f}", layer, page.lengths[t], value)});
    }
  }
  return chart;
}

std::string layer_table(const HtmlPage& page) {
  std::string out = "<details><summary>Numbers by layer</summary>\n" + html_table("Table by layer");
  out += html_header("layer");
  for (const int64_t length : page.lengths)
    out += html_header(fmt::format("recall at {}", length)) +
           html_header(fmt::format("cost at {}", length));
  out += "</tr></thead><tbody>\n";
  for (int layer = 0; layer < page.config.model.layers; ++layer) {
    out += "<tr>" + html_header(std::to_string(layer), "row");
    for (size_t t = 0; t < page.lengths.size(); ++t) {
      const auto mean = mean_of(page, t, layer);
      out += html_cell(mean ? fmt::format("{:.4f}", mean->recall) : "edited") +
             html_cell(mean ? percent_text(mean->share) : "edited");
    }
    out += "</tr>\n";
  }
  return out + std::string(kHtmlTableEnd) + "</details>\n";
}

std::string sample_rows(std::string_view role, const std::vector<runtime::SampleNote>& notes) {
  std::string out;
  for (const runtime::SampleNote& note : notes)
    out += fmt::format("<tr>{}{}{}<td><code>{}</code></td></tr>\n",
                       html_header(html_text(note.source), "row"), html_cell(role),
                       html_cell(std::to_string(note.tokens)), html_text(note.sha256.substr(0, 8)));
  return out;
}

}  // namespace

std::string html_headline(const HtmlPage& page) {
  const HeadConfig& config = page.config;
  const HeadConfig::Model& model = config.model;
  const HeadConfig::Quality& quality = config.quality;
  std::string out = fmt::format(
      "<header>\n<h1>{}</h1>\n<p>{}, {} layers x {} heads ({} KV heads), head_dim {}</p>\n"
      "<dl class=\"facts\">\n",
      html_text(model.name), html_text(model.architecture), model.layers, model.heads,
      model.kv_heads, model.head_dim);
  out += fact("limit", percent_text(config.limit.share) + " of dense attention");
  out += fact("calibration executes", shares_by_length(config.limit.achieved));
  out += fact("recall, mean", fmt::format("{:.4f}", quality.recall_mean));
  out += fact("recall, p05 of heads", fmt::format("{:.4f}", quality.recall_p05));
  out += fact("recall, worst head and sample", fmt::format("{:.4f}", quality.recall_min));
  out += fact("recall, last rows", fmt::format("{:.4f}", quality.recall_last));
  out +=
      "</dl>\n<section aria-labelledby=\"certificate-name\"><h2 id=\"certificate-name\">"
      "Certificate</h2>\n" +
      certificate(config) + "</section>\n";
  if (!config.warnings.empty()) {
    out +=
        "<section class=\"warnings\" aria-labelledby=\"warnings-name\"><h2 "
        "id=\"warnings-name\">Warnings</h2>\n<ul>\n";
    for (const std::string& warning : config.warnings)
      out += fmt::format("<li>{}</li>\n", html_text(warning));
    out += "</ul></section>\n";
  }
  return out + "</header>\n";
}

std::string html_worst(const HtmlPage& page) {
  std::string out =
      "<section aria-labelledby=\"worst-name\">\n<h2 id=\"worst-name\">Worst heads by recall</h2>"
      "\n" +
      html_table("Table of the worst heads");
  for (const std::string_view name : {"head", "recall", "cost"}) out += html_header(name);
  for (const std::string_view name : {"pattern", "parameters"})
    out += fmt::format("<th scope=\"col\" class=\"text\">{}</th>", name);
  out += "</tr></thead><tbody>\n";
  for (const HeadPlace place : worst_heads(page.config, kWorstHeads)) {
    const HeadView& view = page.heads[page.index(place.layer, place.head)];
    const std::string name =
        fmt::format("<a href=\"#L{0}.H{1}\">L{0} H{1}</a>", place.layer, place.head);
    out +=
        fmt::format("<tr>{}{}{}<td class=\"text\">{}</td><td class=\"text\">{}{}</td></tr>\n",
                    html_header(name, "row"), html_cell(fmt::format("{:.4f}", view.entry->recall)),
                    html_cell(percent_text(view.share)), runtime::to_string(view.entry->pattern),
                    html_text(parameters_text(*view.entry)),
                    view.chosen.empty() ? ", not among the candidates" : "");
  }
  out += kHtmlTableEnd;
  if (page.lengths.size() > 1) {
    std::string lengths;
    for (const int64_t length : page.lengths)
      lengths += fmt::format("{}{}", lengths.empty() ? "" : "/", length);
    out += fmt::format("<p>a/b: at {} tokens.</p>\n", lengths);
  }
  return out + "</section>\n";
}

std::string html_profile(const HtmlPage& page) {
  std::string out =
      "<section aria-labelledby=\"profile-name\">\n<h2 id=\"profile-name\">By length and by layer"
      "</h2>\n<p>Recall and last rows are means over heads and samples; p05 of row blocks and the "
      "worst row block are those of the worst head on its worst sample.</p>\n" +
      html_table("Table by length");
  for (const std::string_view name : {"tokens", "recall", "p05 of row blocks", "worst row block",
                                      "last rows", "cost, mean", "cost, dearest sample"})
    out += html_header(name);
  out += "</tr></thead><tbody>\n";
  std::string legend;
  for (size_t t = 0; t < page.lengths.size(); ++t) {
    const auto all = mean_of(page, t, -1);
    if (!all) continue;
    const HeadFigures& mean = *all;
    const auto dearest = page.config.limit.achieved.find(page.lengths[t]);
    out += fmt::format(
        "<tr>{}{}{}{}{}{}{}</tr>\n", html_header(std::to_string(page.lengths[t]), "row"),
        html_cell(fmt::format("{:.4f}", mean.recall)),
        html_cell(fmt::format("{:.4f}", mean.recall_p05)),
        html_cell(fmt::format("{:.4f}", mean.recall_min)),
        html_cell(fmt::format("{:.4f}", mean.recall_last)), html_cell(percent_text(mean.share)),
        html_cell(dearest == page.config.limit.achieved.end() ? "not measured"
                                                              : percent_text(dearest->second)));
    legend += fmt::format("<li>{} {} tokens</li>", chart_key(t), page.lengths[t]);
  }
  out += kHtmlTableEnd;
  out += fmt::format("<ul class=\"legend\">{}</ul>\n<div class=\"pair\">{}{}</div>\n", legend,
                     chart_svg(layer_chart(page, true)), chart_svg(layer_chart(page, false)));
  return out + layer_table(page) + "</section>\n";
}

std::string html_making(const HtmlPage& page) {
  const HeadConfig& config = page.config;
  std::string out =
      "<section aria-labelledby=\"samples-name\">\n<h2 id=\"samples-name\">Samples</h2>\n" +
      html_table("Table of samples");
  for (const std::string_view name : {"source", "used for", "tokens", "sha256"})
    out += html_header(name);
  out += "</tr></thead><tbody>\n";
  out += sample_rows("calibration", config.calibration.samples) +
         sample_rows("held out", config.calibration.held_out) + std::string(kHtmlTableEnd);
  out +=
      "</section>\n<section aria-labelledby=\"making-name\">\n<h2 id=\"making-name\">How it was "
      "made</h2>\n<dl class=\"facts\">\n";
  out += fact("tool", html_text(config.producer.tool));
  out += fact("backend", html_text(config.producer.backend));
  const ScoreTable& table = page.report.table;
  out +=
      fact(table.peak_bytes > 0 ? "time and memory" : "time",
           fmt::format("{:.0f} s of dense passes, {:.0f} s of scoring{}", table.forward_seconds,
                       table.score_seconds,
                       table.peak_bytes > 0
                           ? fmt::format(", {:.2f} GB", static_cast<double>(table.peak_bytes) / 1e9)
                           : ""));
  out += fact("options", fmt::format("<code>{}</code>", html_text(config.producer.options)));
  out += fact("seed", std::to_string(config.producer.seed));
  out += fact("objective", html_text(config.limit.objective));
  out += fact("allocation", html_text(config.limit.allocation));
  out += fact("candidates per head", std::to_string(page.report.space.candidates()));
  out += fact("model", fmt::format("<code>{}</code>", html_text(config.model.fingerprint)));
  return out + "</dl>\n</section>\n";
}

}  // namespace mi::search
