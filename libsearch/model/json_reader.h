// JSON with the strictness that a file from elsewhere needs: duplicate keys and deep nesting are
// refused, and every typed access names file, key, found and expected.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kernels/status.h"

namespace mi::search {

using Json = nlohmann::json;

[[nodiscard]] Result<Json> parse_json(std::string_view text, const std::string& file);

// One object of a file, with the path that messages show ("model.json: rope_scaling.factor").
class JsonObject {
 public:
  [[nodiscard]] static Result<JsonObject> of(const Json& value, std::string place);

  // True when the key is there and not null.
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] const Json* find(std::string_view key) const;  // null when absent or JSON null

  [[nodiscard]] Result<int64_t> integer(std::string_view key, int64_t low, int64_t high,
                                        std::optional<int64_t> fallback = {}) const;
  [[nodiscard]] Result<double> number(std::string_view key,
                                      std::optional<double> fallback = {}) const;
  [[nodiscard]] Result<bool> boolean(std::string_view key, bool fallback) const;
  [[nodiscard]] Result<std::string> string(std::string_view key,
                                           std::optional<std::string> fallback = {}) const;
  [[nodiscard]] Result<JsonObject> object(std::string_view key) const;
  [[nodiscard]] Result<const Json*> array(std::string_view key) const;

  [[nodiscard]] const Json& json() const { return *value_; }
  [[nodiscard]] std::string place(std::string_view key) const;
  [[nodiscard]] Failure wrong(std::string_view key, std::string_view expected) const;

 private:
  const Json* value_ = nullptr;
  std::string place_;
};

}  // namespace mi::search
