#include "libsearch/report/html_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "libsearch/report/html_page.h"

namespace mi::search {
namespace {

constexpr double kWidth = 400, kHeight = 260;
constexpr double kLeft = 58, kRight = 10, kTop = 12, kBottom = 44;
constexpr size_t kShapes = 4;
// Of the stylesheet's colours for patterns; the first is grey.
constexpr std::array<size_t, 6> kColours = {2, 1, 3, 4, 5, 0};

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;
  [[nodiscard]] double place(double value) const {  // in [0, 1]
    return log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
};

// 1, 2 or 5 times a power of ten, at most six of them.
Axis linear_axis(double low, double high, bool whole) {
  if (!(high > low)) high = low + 1;
  const double rough = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * power >= rough) step = factor * power;
  if (whole) step = std::max(1.0, std::ceil(step));
  Axis axis;
  const double first = std::floor(low / step + 1e-9);
  const double last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) axis.ticks.push_back(i * step);
  axis.low = axis.ticks.front();
  axis.high = axis.ticks.back();
  return axis;
}

// From the tick below to the tick above; between decades only where there are few of them.
Axis log_axis(double low, double high) {
  std::vector<double> marks = {1};
  if (std::log10(high / low) < 2) marks = {1, 2, 5};
  std::vector<double> ticks;
  for (double power = std::floor(std::log10(low)); power <= std::ceil(std::log10(high)); ++power)
    for (const double mark : marks) ticks.push_back(mark * std::pow(10, power));
  const auto begin = std::upper_bound(ticks.begin(), ticks.end(), low * (1 + 1e-9));
  const auto end = std::lower_bound(ticks.begin(), ticks.end(), high * (1 - 1e-9));
  Axis axis;
  axis.log = true;
  axis.ticks.assign(begin == ticks.begin() ? begin : begin - 1, end == ticks.end() ? end : end + 1);
  if (axis.ticks.size() < 2) axis.ticks.push_back(axis.ticks.back() * 10);
  axis.low = axis.ticks.front();
  axis.high = axis.ticks.back();
  return axis;
}

std::string tick_text(double value) {
  return fmt::format("{:.4g}", std::abs(value) < 1e-12 ? 0 : value);
}

double x_of(const Axis& axis, double value) {
  return kLeft + axis.place(value) * (kWidth - kLeft - kRight);
}
double y_of(const Axis& axis, double value) {
  return kHeight - kBottom - axis.place(value) * (kHeight - kTop - kBottom);
}

std::string mark(size_t series, double x, double y, std::string_view title) {
  constexpr std::array<std::string_view, kShapes> kPaths = {
      "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0", "M-3,-3h6v6h-6z", "M0,-4l4,7h-8z",
      "M0,-4.5l4.5,4.5l-4.5,4.5l-4.5,-4.5z"};
  return fmt::format(
      "<path class=\"mark m{}\" transform=\"translate({:.1f},{:.1f})\" "
      "d=\"{}\"><title>{}</title></path>",
      kColours[series % 6], x, y, kPaths[series % kShapes], html_text(title));
}

std::string frame(const Chart& chart, const Axis& x, const Axis& y) {
  std::string out;
  for (const double tick : y.ticks)
    out += fmt::format(
        "<line class=\"rule\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/><text "
        "class=\"tick end\" x=\"{3}\" y=\"{4:.1f}\">{5}</text>",
        kLeft, kWidth - kRight, y_of(y, tick), kLeft - 6, y_of(y, tick) + 4, tick_text(tick));
  for (const double tick : x.ticks)
    out += fmt::format(
        "<line class=\"rule\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/><text "
        "class=\"tick mid\" x=\"{0:.1f}\" y=\"{3}\">{4}</text>",
        x_of(x, tick), kTop, kHeight - kBottom, kHeight - kBottom + 16, tick_text(tick));
  return out + fmt::format(
                   "<text class=\"axis mid\" x=\"{:.1f}\" y=\"{}\">{}</text><text "
                   "class=\"axis mid\" transform=\"translate(13,{:.1f}) "
                   "rotate(-90)\">{}</text>",
                   (kLeft + kWidth - kRight) / 2, kHeight - 8, html_text(chart.x_name),
                   (kTop + kHeight - kBottom) / 2, html_text(chart.y_name));
}

}  // namespace

std::string chart_svg(const Chart& chart) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  double x_low = kNone, x_high = -kNone, y_low = kNone, y_high = -kNone;
  const auto drawn = [&](const ChartPoint& point) { return !chart.log_y || point.y > 0; };
  const auto include = [&](const ChartPoint& point) {
    if (!drawn(point)) return;
    x_low = std::min(x_low, point.x);
    x_high = std::max(x_high, point.x);
    y_low = std::min(y_low, point.y);
    y_high = std::max(y_high, point.y);
  };
  for (const ChartSeries& series : chart.series)
    std::for_each(series.points.begin(), series.points.end(), include);
  if (chart.marked) include(*chart.marked);
  if (x_low > x_high) return "<p>Nothing to draw.</p>";
  const Axis x = linear_axis(x_low, x_high, chart.whole_x);
  const Axis y = chart.log_y ? log_axis(y_low, y_high) : linear_axis(y_low, y_high, false);
  std::string out = fmt::format(
      "<svg class=\"chart\" role=\"img\" aria-labelledby=\"{0}-name {0}-text\" viewBox=\"0 0 {1} "
      "{2}\"><title id=\"{0}-name\">{3}</title><desc id=\"{0}-text\">{4}</desc>{5}",
      chart.id, kWidth, kHeight, html_text(chart.title), html_text(chart.description),
      frame(chart, x, y));
  for (size_t s = 0; s < chart.series.size(); ++s) {
    std::string line, marks;
    for (const ChartPoint& point : chart.series[s].points) {
      if (!drawn(point)) continue;
      line += fmt::format("{}{:.1f},{:.1f}", line.empty() ? "" : " ", x_of(x, point.x),
                          y_of(y, point.y));
      marks += mark(s, x_of(x, point.x), y_of(y, point.y), point.title);
    }
    out +=
        fmt::format("<polyline class=\"line m{}\" points=\"{}\"/>{}", kColours[s % 6], line, marks);
  }
  if (chart.marked && drawn(*chart.marked))
    out += fmt::format(
        "<path class=\"here\" transform=\"translate({:.1f},{:.1f})\" "
        "d=\"M-7,0a7,7 0 1,0 14,0a7,7 0 1,0 -14,0M-11,0h22M0,-11v22\"><title>{}</title></path>",
        x_of(x, chart.marked->x), y_of(y, chart.marked->y), html_text(chart.marked->title));
  return out + "</svg>";
}

std::string chart_key(size_t series) {
  return fmt::format(
      "<svg class=\"mark-key\" aria-hidden=\"true\" viewBox=\"-6 -6 12 12\">{}</svg>",
      mark(series, 0, 0, ""));
}

}  // namespace mi::search
