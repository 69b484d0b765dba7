#include "libsearch/model/gguf.h"

#include <fmt/format.h>

namespace mi::search {

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto place = metadata_.find(key);
  return place == metadata_.end() ? nullptr : &place->second;
}

template <class T>
Result<T> GgufFile::get(std::string_view key, std::optional<T> fallback,
                        std::string_view expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const T* typed = value == nullptr ? nullptr : std::get_if<T>(value);
  if (typed == nullptr) {
    return fail(Code::schema, fmt::format("{}: metadata {}: {}, expected {}", file_name_, key,
                                          value == nullptr ? "missing" : "wrong type", expected));
  }
  return *typed;
}

Result<int64_t> GgufFile::integer(std::string_view key, std::optional<int64_t> fallback) const {
  return get<int64_t>(key, fallback, "an integer");
}
Result<double> GgufFile::number(std::string_view key, std::optional<double> fallback) const {
  return get<double>(key, fallback, "a float");
}
Result<bool> GgufFile::boolean(std::string_view key, std::optional<bool> fallback) const {
  return get<bool>(key, fallback, "a boolean");
}
Result<std::string_view> GgufFile::string(std::string_view key,
                                          std::optional<std::string_view> fallback) const {
  return get<std::string_view>(key, fallback, "a string");
}

Result<std::span<const std::string_view>> GgufFile::strings(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || array->type != GgufType::string) {
    return fail(Code::schema, fmt::format("{}: metadata {}: {}, expected an array of strings",
                                          file_name_, key, value ? "wrong type" : "missing"));
  }
  return std::span<const std::string_view>(array->strings);
}

Result<std::span<const int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  const bool wrong = array == nullptr || array->type == GgufType::string ||
                     array->type == GgufType::f32 || array->type == GgufType::f64;
  if (wrong) {
    return fail(Code::schema, fmt::format("{}: metadata {}: {}, expected an array of integers",
                                          file_name_, key, value ? "wrong type" : "missing"));
  }
  return std::span<const int64_t>(array->integers);
}

Result<std::span<const double>> GgufFile::numbers(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || (array->type != GgufType::f32 && array->type != GgufType::f64)) {
    return fail(Code::schema, fmt::format("{}: metadata {}: {}, expected an array of floats",
                                          file_name_, key, value ? "wrong type" : "missing"));
  }
  return std::span<const double>(array->floats);
}

}  // namespace mi::search
