// Short decimals of values computed to that precision: files show no digits that mean nothing.
#pragma once

#include <string>

#include <fmt/format.h>

namespace mi::search {

[[nodiscard]] inline double decimals(double value, int digits) {
  return std::stod(fmt::format("{:.{}f}", value, digits));
}
[[nodiscard]] inline double significant(double value, int digits) {
  return std::stod(fmt::format("{:.{}g}", value, digits));
}

}  // namespace mi::search
