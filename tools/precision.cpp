#include "tools/precision.h"

#include "libsearch/model/linear.h"

namespace mi::tools {

Result<runtime::Element> choose_element(const std::string& precision,
                                        const kernels::Backend& backend) {
  if (precision == "f32") return runtime::Element::f32;
  const Status has_bf16 = search::bf16_linear_available();
  if (precision == "bf16" && !has_bf16)
    return fail(has_bf16.code, "--precision bf16: " + has_bf16.what + "; expected f32 or auto");
  const bool chosen = precision == "bf16" || (has_bf16 && &backend.f32() != &backend);
  return chosen ? runtime::Element::bf16 : runtime::Element::f32;
}

}  // namespace mi::tools
