// What an allocation minimises.
#pragma once

#include <optional>
#include <string_view>

namespace mi::search {

enum class Objective {
  error,   // squared output error in the residual stream, relative to it
  square,  // squared lost attention mass per row
  mass,    // lost attention mass, the published criterion
};
[[nodiscard]] std::string_view to_string(Objective objective);
[[nodiscard]] std::optional<Objective> objective_from_string(std::string_view name);

}  // namespace mi::search
