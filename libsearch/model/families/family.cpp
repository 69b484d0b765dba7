#include "libsearch/model/families/family.h"

#include <array>

namespace mi::search {

std::span<const Family> families() {
  static constexpr std::array kFamilies = {
      Family{"llama", "LlamaForCausalLM", "llama", bind_llama},
  };
  return kFamilies;
}

std::string supported_hf_architectures() {
  std::string list;
  for (const Family& family : families()) {
    list += (list.empty() ? "" : ", ") + std::string(family.hf_architecture);
  }
  return list;
}

std::string supported_gguf_architectures() {
  std::string list;
  for (const Family& family : families()) {
    list += (list.empty() ? "" : ", ") + std::string(family.gguf_architecture);
  }
  return list;
}

}  // namespace mi::search
