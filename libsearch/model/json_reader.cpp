#include "libsearch/model/json_reader.h"

#include <exception>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>

namespace mi::search {
namespace {

constexpr int kMaxDepth = 64;

struct Refused : std::exception {
  explicit Refused(std::string text) : what_text(std::move(text)) {}
  [[nodiscard]] const char* what() const noexcept override { return what_text.c_str(); }
  std::string what_text;
};

// Longest stretch of a foreign value that a message repeats.
std::string short_dump(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

// The library's message without its own number in front, "[json.exception.parse_error.101] ".
std::string_view reason(const Json::exception& error) {
  const std::string_view what = error.what();
  const size_t end = what.find("] ");
  return end == std::string_view::npos ? what : what.substr(end + 2);
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& file) {
  // The keys seen so far in every object that is open.
  std::vector<std::unordered_set<std::string>> open;
  const auto check = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxDepth) throw Refused(fmt::format("nested deeper than {}", kMaxDepth));
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open.back().insert(key).second) {
        throw Refused(fmt::format("key \"{}\" is there twice", key));
      }
    }
    return true;
  };
  // The parser takes NUL for the end.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    return fail(Code::schema, fmt::format("{}: not JSON at byte {}: found NUL", file, nul));
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    return fail(Code::schema,
                fmt::format("{}: not JSON at byte {}: {}", file, error.byte, reason(error)));
  } catch (const Refused& error) {
    return fail(Code::schema, fmt::format("{}: {}", file, error.what()));
  } catch (const Json::exception& error) {  // a number past the range of double
    return fail(Code::schema, fmt::format("{}: {}", file, reason(error)));
  }
}

Result<JsonObject> JsonObject::of(const Json& value, std::string place) {
  if (!value.is_object()) {
    return fail(Code::schema,
                fmt::format("{}: got {}, expected an object", place, short_dump(value)));
  }
  JsonObject object;
  object.value_ = &value;
  object.place_ = std::move(place);
  return object;
}

const Json* JsonObject::find(std::string_view key) const {
  const auto place = value_->find(key);
  return place == value_->end() || place->is_null() ? nullptr : &*place;
}

std::string JsonObject::place(std::string_view key) const {
  return fmt::format("{}: {}", place_, key);
}

Failure JsonObject::wrong(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  return fail(Code::schema, value == nullptr
                                ? fmt::format("{}: missing, expected {}", place(key), expected)
                                : fmt::format("{}: got {}, expected {}", place(key),
                                              short_dump(*value), expected));
}

Result<int64_t> JsonObject::integer(std::string_view key, int64_t low, int64_t high,
                                    std::optional<int64_t> fallback) const {
  const Json* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const std::string expected = fmt::format("an integer from {} to {}", low, high);
  if (value == nullptr || !value->is_number_integer()) return wrong(key, expected);
  // Unsigned numbers past 2^63 would wrap to negative in get<int64_t>.
  if (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) {
    return wrong(key, expected);
  }
  const auto number = value->get<int64_t>();
  if (number < low || number > high) return wrong(key, expected);
  return number;
}

Result<double> JsonObject::number(std::string_view key, std::optional<double> fallback) const {
  const Json* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number()) return wrong(key, "a number");
  return value->get<double>();
}

Result<bool> JsonObject::boolean(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return wrong(key, "true or false");
  return value->get<bool>();
}

Result<std::string> JsonObject::string(std::string_view key,
                                       std::optional<std::string> fallback) const {
  const Json* value = find(key);
  if (value == nullptr && fallback) return *std::move(fallback);
  if (value == nullptr || !value->is_string()) return wrong(key, "a string");
  return value->get<std::string>();
}

Result<JsonObject> JsonObject::object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_object()) return wrong(key, "an object");
  return of(*value, place(key));
}

Result<const Json*> JsonObject::array(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array()) return wrong(key, "an array");
  return value;
}

}  // namespace mi::search
