// Small line charts as inline SVG.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mi::search {

struct ChartPoint {
  double x = 0, y = 0;
  std::string title;  // plain text
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string_view id, title, description, x_name, y_name;
  bool log_y = false;  // points at or below 0 are left out
  bool whole_x = false;
  std::vector<ChartSeries> series;   // told apart by colour and by the shape of their marks
  std::optional<ChartPoint> marked;  // a ring with a cross, and its title beside the chart
};

[[nodiscard]] std::string chart_svg(const Chart& chart);
// The mark of a series, for legends: an SVG of its own.
[[nodiscard]] std::string chart_key(size_t series);

}  // namespace mi::search
