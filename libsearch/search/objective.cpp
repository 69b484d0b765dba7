#include "libsearch/search/objective.h"

namespace mi::search {

std::string_view to_string(Objective objective) {
  switch (objective) {
    case Objective::error:
      return "error";
    case Objective::square:
      return "square";
    case Objective::mass:
      return "mass";
  }
  return "unknown";
}

std::optional<Objective> objective_from_string(std::string_view name) {
  for (Objective objective : {Objective::error, Objective::square, Objective::mass})
    if (name == to_string(objective)) return objective;
  return std::nullopt;
}

}  // namespace mi::search
