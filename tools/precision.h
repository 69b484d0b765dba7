// --precision of the tools that run a model.
#pragma once

#include <string>

#include "kernels/backend.h"
#include "libruntime/plan.h"

namespace mi::tools {

// "auto", "bf16" or "f32": auto is bf16 where the backend has instructions for it.
[[nodiscard]] Result<runtime::Element> choose_element(const std::string& precision,
                                                      const kernels::Backend& backend);

}  // namespace mi::tools
