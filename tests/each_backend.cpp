#include <catch2/catch.hpp>

#include "tests/support.h"

namespace mi::test {

void for_each_backend(const std::function<void(const kernels::Backend&)>& check) {
  for (const kernels::Backend* backend : kernels::all_backends()) {
    if (const Status status = backend->available(); !status) {
      note_skip(status.what);
      continue;
    }
    INFO("backend " << backend->name());
    check(*backend);
  }
}

}  // namespace mi::test
