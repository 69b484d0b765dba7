// What --budget may say.
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "libsearch/search/search.h"

namespace mi::search {
namespace {

Failure wrong_budget(std::string_view text, std::string_view why) {
  return fail(
      Code::invalid_argument,
      fmt::format("budget: got \"{}\" ({}), expected a share of dense attention such as 15% "
                  "or 0.15, or with a device profile a time such as 120ms or 0.12s",
                  text, why));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

// The text without `unit` at its end.
std::optional<std::string_view> without(std::string_view text, std::string_view unit) {
  text = trimmed(text);
  if (!text.ends_with(unit)) return std::nullopt;
  text.remove_suffix(unit.size());
  return trimmed(text);
}

std::optional<double> finite_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

}  // namespace

Result<double> parse_budget(std::string_view text) {
  const auto percent = without(text, "%");
  const auto value = finite_number(percent ? *percent : trimmed(text));
  if (!value) return wrong_budget(text, "not a number");
  const double share = percent ? *value / 100 : *value;
  if (share <= 0) return wrong_budget(text, "not above 0");
  if (share > 1)
    return wrong_budget(text, percent ? "above 100%" : "above 1; did you mean a percentage?");
  return share;
}

Result<std::optional<double>> parse_time(std::string_view text) {
  const auto seconds = without(text, "s");
  if (!seconds) return std::optional<double>();
  const auto milliseconds = without(text, "ms");
  const auto value = finite_number(milliseconds ? *milliseconds : *seconds);
  if (!value) return wrong_budget(text, "not a number");
  if (*value <= 0) return wrong_budget(text, "not above 0");
  return std::optional(milliseconds ? *value : 1000 * *value);
}

}  // namespace mi::search
