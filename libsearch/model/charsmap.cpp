#include "libsearch/model/charsmap.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace mi::search {
namespace {

// A unit leads to the block of 256 that holds its children and, if a key ends there, a value: the
// unit that its offset itself points at. Values have the highest bit and lead nowhere.
bool is_value(uint32_t unit) {
  return unit >> 31U != 0;
}
bool ends_key(uint32_t unit) {
  return (unit >> 8U & 1U) != 0;
}
uint32_t offset_of(uint32_t unit) {
  return (unit >> 10U) << ((unit & (1U << 9U)) >> 6U);
}

}  // namespace

Status check_charsmap(std::string_view bytes, const std::string& place) {
  const auto broken = [&](std::string_view what) {
    return fail(Code::schema, fmt::format("{}: {}", place, what));
  };
  uint32_t array_bytes = 0;
  if (bytes.size() < sizeof(array_bytes))
    return broken(fmt::format("got {} bytes, expected an array's size", bytes.size()));
  std::memcpy(&array_bytes, bytes.data(), sizeof(array_bytes));
  bytes.remove_prefix(sizeof(array_bytes));
  if (array_bytes == 0 || array_bytes % sizeof(uint32_t) != 0 || array_bytes >= bytes.size())
    return broken(fmt::format("got an array of {} bytes, expected less than {}, by fours",
                              array_bytes, bytes.size()));
  if (bytes.back() != '\0') return broken("expected NUL at its end");
  std::vector<uint32_t> units(array_bytes / sizeof(uint32_t));
  std::memcpy(units.data(), bytes.data(), array_bytes);
  const size_t replacement_bytes = bytes.size() - array_bytes;
  for (size_t at = 0; at < units.size(); ++at) {
    if (at > 0 && is_value(units[at])) continue;  // the first is followed whatever it is
    const size_t block = at ^ offset_of(units[at]);
    if ((block | 0xffU) >= units.size() ||
        (ends_key(units[at]) && (units[block] & 0x7fffffffU) >= replacement_bytes))
      return broken(fmt::format("unit {} leads out of it", at));
  }
  return {};
}

}  // namespace mi::search
