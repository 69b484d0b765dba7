// What every budget gives, and where the config stands.
#include <optional>

#include <fmt/format.h>

#include "libsearch/report/html_chart.h"
#include "libsearch/report/html_page.h"
#include "libsearch/search/objective.h"

namespace mi::search {
namespace {

// Of the heads as they are, by the report; nothing if one of them was edited.
std::optional<double> loss_of(const HtmlPage& page, Objective objective) {
  const AllocationProblem problem = make_problem(page.report.table, page.report.space, objective);
  double loss = 0;
  for (size_t i = 0; i < page.heads.size(); ++i) {
    if (page.heads[i].chosen.empty()) return std::nullopt;
    for (size_t t = 0; t < page.lengths.size(); ++t)
      loss += problem.choices[t][i][page.heads[i].chosen[t]].loss /
              static_cast<double>(page.lengths.size());
  }
  return loss;
}

std::string row(std::string_view name, const ParetoPoint& point, std::string_view loss,
                std::string_view attributes) {
  return fmt::format("<tr{}>{}{}{}{}{}{}</tr>\n", attributes, html_header(name, "row"),
                     html_cell(percent_text(point.executed)), html_cell(loss),
                     html_cell(fmt::format("{:.4f}", point.recall_mean)),
                     html_cell(fmt::format("{:.4f}", point.recall_p05)),
                     html_cell(fmt::format("{:.4f}", point.recall_min)));
}

std::string table(const HtmlPage& page, std::optional<double> loss) {
  std::string out = html_table("Table of budgets");
  for (const std::string_view name :
       {"budget", "executed", "loss", "recall, mean", "p05 of heads", "worst head and sample"})
    out += html_header(name);
  out += "</tr></thead><tbody>\n";
  for (const ParetoPoint& point : page.options.curve)
    out += row(fmt::format("{:.4g} %", 100 * point.limit), point, fmt::format("{:.4g}", point.loss),
               "");
  for (const ParetoPoint& point : page.options.published)
    out += row(fmt::format("published rule, {:.4g} %", 100 * point.limit), point,
               fmt::format("{:.4g}", point.loss), "");
  const runtime::HeadConfig& config = page.config;
  const ParetoPoint own{.executed = dearest_share(config),
                        .recall_mean = config.quality.recall_mean,
                        .recall_p05 = config.quality.recall_p05,
                        .recall_min = config.quality.recall_min};
  out += row("this config", own, loss ? fmt::format("{:.4g}", *loss) : "edited heads",
             " class=\"own\"");
  return out.append(kHtmlTableEnd);
}

Chart chart(const HtmlPage& page, bool of_loss, std::optional<double> loss) {
  Chart chart;
  chart.id = of_loss ? "pareto-loss" : "pareto-recall";
  chart.title = of_loss ? "Loss by budget" : "Mean recall by budget";
  chart.description =
      "The best allocation of each budget, and the published method's rule; the ring with a cross "
      "is "
      "this config. The table below has the numbers.";
  chart.x_name = "executed, % of dense attention";
  chart.y_name = of_loss ? "loss (log scale)" : "recall, mean";
  chart.log_y = of_loss;
  for (const auto points : {page.options.curve, page.options.published}) {
    auto& series = chart.series.emplace_back();
    for (const ParetoPoint& point : points)
      series.points.push_back({100 * point.executed, of_loss ? point.loss : point.recall_mean,
                               fmt::format("{:.4g} %: loss {:.4g}, recall {:.4f}",
                                           100 * point.limit, point.loss, point.recall_mean)});
  }
  if (!of_loss || loss)
    chart.marked = {100 * dearest_share(page.config),
                    of_loss ? *loss : page.config.quality.recall_mean, "this config"};
  return chart;
}

}  // namespace

std::string html_pareto(const HtmlPage& page) {
  if (page.options.curve.empty())
    return "<section aria-labelledby=\"pareto-name\">\n<h2 id=\"pareto-name\">What every budget "
           "gives</h2>\n<p class=\"note\">No budget up to 50 % can be kept at these prompt "
           "lengths.</p>\n</section>\n";
  const Objective objective = objective_of(page.config);
  const std::optional<double> loss = loss_of(page, objective);
  return fmt::format(
      "<section aria-labelledby=\"pareto-name\">\n<h2 id=\"pareto-name\">What every budget gives"
      "</h2>\n<p>Configs allocated from the same scores for other budgets; the loss is {}, summed "
      "over heads. The ring with a cross is this config.</p>\n<ul class=\"legend\"><li>{} best "
      "allocation</li><li>{} published method's rule: of A-shape, vertical-slash and block-sparse "
      "the one that keeps most mass, the same budget for every head</li></ul>\n<div "
      "class=\"pair\">{}{}</div>\n{}"
      "</section>\n",
      objective == Objective::error    ? "output error relative to the average candidate's"
      : objective == Objective::square ? "squared lost attention mass"
                                       : "lost attention mass",
      chart_key(0), chart_key(1), chart_svg(chart(page, true, loss)),
      chart_svg(chart(page, false, loss)), table(page, loss));
}

}  // namespace mi::search
