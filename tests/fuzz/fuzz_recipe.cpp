// Any bytes: the recipe reader gives one error or a recipe.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "libsearch/data/sample.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto recipe = mi::search::parse_recipe(text, "fuzz", "folder");
  if (recipe ? recipe->lengths.empty() || recipe->calibration.empty()
             : recipe.error().what.find("fuzz") == std::string::npos)
    std::abort();
  return 0;
}
