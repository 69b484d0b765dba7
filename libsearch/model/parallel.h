// Parallel loops whose bodies may fail: the error of the lowest index comes back, nothing escapes
// the parallel region.
#pragma once

#include <cstdint>
#include <exception>

#include <omp.h>

#include "kernels/status.h"

namespace mi::search {

// body(index, thread) -> Status, for every index below count. Exceptions are rethrown here.
template <class Body>
[[nodiscard]] Status parallel_for(int64_t count, int threads, const Body& body) {
  Status first;
  int64_t first_index = count;
  std::exception_ptr thrown;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < count; ++i) {
    Status status;
    std::exception_ptr caught;
    try {
      status = body(i, omp_get_thread_num());
    } catch (...) {
      caught = std::current_exception();
    }
    if (!status || caught) {
#pragma omp critical(mi_parallel_for)
      if (i < first_index) {
        first_index = i;
        first = std::move(status);
        thrown = caught;
      }
    }
  }
  if (thrown) std::rethrow_exception(thrown);
  return first;
}

}  // namespace mi::search
