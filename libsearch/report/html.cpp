#include "libsearch/report/html.h"

#include <fmt/format.h>

#include "libsearch/report/html_page.h"

namespace mi::search {
namespace {

// Filled by the script; without one, the title of every cell of the heatmaps has its values.
constexpr std::string_view kDetail =
    R"(<p id="detail-hint" hidden>Choose a head in the heatmaps above, or in the table of the worst heads.</p>
<section id="detail" aria-labelledby="detail-name">
<h2 id="detail-name" tabindex="-1">One head</h2>
<noscript><p>Details of single heads need JavaScript. All other parts of the page do not.</p></noscript>
<p id="detail-pattern"></p>
<div id="detail-body"></div>
</section>
)";

}  // namespace

std::string html_page(const ScoreReport& report, const runtime::HeadConfig& config,
                      const HtmlOptions& options) {
  const HtmlPage page = make_page(report, config, options);
  // Nothing may be fetched, whatever the files say: no source is allowed but the page itself.
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n"
      "<title>{}: sparse attention at {}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
      html_text(config.model.name), percent_text(config.limit.share), html_style());
  out += html_headline(page);
  out += "<main>\n";
  out += html_heatmaps(page);
  out += kDetail;
  out += html_pareto(page);
  out += html_worst(page);
  out += html_profile(page);
  out += html_making(page);
  out += "</main>\n<div id=\"tip\" aria-hidden=\"true\" hidden></div>\n";
  out +=
      fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n", html_data(page));
  out += fmt::format("<script>\n{}</script>\n</body>\n</html>\n", html_script());
  return out;
}

}  // namespace mi::search
