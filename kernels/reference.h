// Double-precision oracle, itself a Backend: what every other backend is tested against.
#pragma once

#include "kernels/backend.h"

namespace mi::kernels {

[[nodiscard]] const Backend& reference_backend();

}  // namespace mi::kernels
