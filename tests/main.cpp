#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include "tests/support.h"

// 1 on any failure, else 77 when a case skipped itself, else 0. Catch's own code counts failures,
// so a failure count of 77 would read as a skip.
int main(int argc, char** argv) {
  const int failures = Catch::Session().run(argc, argv);
  if (failures != 0) return 1;
  return mi::test::skips() > 0 ? 77 : 0;
}
