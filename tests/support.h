// Shared by all tests: visible skips, every backend in turn, comparison with the worst place shown,
// random tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

#ifdef __SANITIZE_ADDRESS__
#define MI_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MI_SANITIZED 1
#endif
#endif

namespace mi::test {

// Thousands of random cases prove arithmetic; memory and undefined behaviour show in a few of each
// shape, and a sanitizer runs them ten times slower.
#ifdef MI_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Counts, prints the reason and leaves the test case; the process then exits with 77, which ctest
// shows as "Skipped", unless something failed.
void note_skip(const std::string& reason);
[[nodiscard]] int skips();
#define MI_SKIP(reason)            \
  do {                             \
    ::mi::test::note_skip(reason); \
    return;                        \
  } while (false)

struct Tolerance {
  double absolute = 0;
  double relative = 0;
};
// Empty when got matches want: same places of inf and nan, then abs-or-rel; else the worst place.
[[nodiscard]] std::string worst_difference(std::span<const float> got, std::span<const float> want,
                                           Tolerance tolerance);

// `check` on every backend that this machine can run; the others are noted as skipped.
void for_each_backend(const std::function<void(const kernels::Backend&)>& check);

// Standard normal values; the same for a seed on every machine.
[[nodiscard]] std::vector<float> random_normal(size_t count, uint64_t seed, float sigma = 1);

}  // namespace mi::test
