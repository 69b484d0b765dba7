// Errors as values. A library function that can fail returns Status or Result<T>; nothing throws
// across a public function, prints, aborts or exits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace mi {

enum class Code : int32_t {
  ok = 0,
  invalid_argument,  // the caller's request cannot be right
  unsupported,       // right, but not offered here
  io,                // the file system said no
  schema,            // a file's content is not what it must be
  out_of_memory,
  device,
  internal,
};

[[nodiscard]] std::string_view to_string(Code code);

// `what` names the thing, what was found and what was expected:
// "head_dim: got 12, supported: multiples of 8 up to 256".
struct [[nodiscard]] Status {
  Code code = Code::ok;
  std::string what;
  explicit operator bool() const { return code == Code::ok; }
};

template <class T>
using Result = tl::expected<T, Status>;

// What `return fail(...)` yields: converts to Status and to every Result<T>.
struct [[nodiscard]] Failure {
  Status status;
  operator Status() && { return std::move(status); }
  template <class T>
  operator tl::expected<T, Status>() && {
    return tl::unexpected<Status>(std::move(status));
  }
};

[[nodiscard]] inline Failure fail(Code code, std::string what) {
  return Failure{Status{code, std::move(what)}};
}
[[nodiscard]] inline Failure fail(Status status) {
  return Failure{std::move(status)};
}

}  // namespace mi

#define MI_CONCAT_INNER(a, b) a##b
#define MI_CONCAT(a, b) MI_CONCAT_INNER(a, b)

// MI_TRY(auto c, load(path)): declares c, or returns. NOLINTBEGIN(*-macro-parentheses)
#define MI_TRY(declaration, expression) \
  MI_TRY_IMPL(MI_CONCAT(mi_result_, __LINE__), declaration, expression)
#define MI_TRY_IMPL(result, declaration, expression)         \
  auto result = (expression);                                \
  if (!result) return ::mi::fail(std::move(result).error()); \
  declaration = std::move(*result)

// MI_CHECK(write(path)): returns a failed Status to the caller.
#define MI_CHECK(expression)                                 \
  do {                                                       \
    ::mi::Status mi_status = (expression);                   \
    if (!mi_status) return ::mi::fail(std::move(mi_status)); \
  } while (false)  // NOLINTEND(*-macro-parentheses)
