// A check of options that are numbers; CLI::Range lets nan through.
#pragma once

#include <cstdlib>
#include <functional>
#include <string>

#include <fmt/format.h>

namespace mi::tools {

[[nodiscard]] inline std::function<std::string(const std::string&)> number_between(double low,
                                                                                   double high) {
  return [low, high](const std::string& given) {
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    const bool number = !given.empty() && *end == '\0';
    return number && value >= low && value <= high
               ? std::string()
               : fmt::format("expected a number from {} to {}, got {}", low, high, given);
  };
}

}  // namespace mi::tools
