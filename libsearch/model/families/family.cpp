#include "libsearch/model/families/family.h"

#include <array>

namespace mi::search {

std::span<const Family> families() {
  static constexpr std::array kFamilies = {
      // Llama 2 and 3, Yi, SmolLM2. llama.cpp's converter turns the rows of q and k.
      Family{.name = "llama",
             .hf_architecture = "LlamaForCausalLM",
             .gguf_architecture = "llama",
             .bias = Family::Bias::asked,
             .interleaved_gguf = true},
      // The same layers; a GGUF file calls them llama.
      Family{.name = "mistral", .hf_architecture = "MistralForCausalLM", .gguf_architecture = ""},
      // Qwen2 and 2.5.
      Family{.name = "qwen2",
             .hf_architecture = "Qwen2ForCausalLM",
             .gguf_architecture = "qwen2",
             .bias = Family::Bias::qkv,
             .window_is_asked = true},
      Family{.name = "qwen3",
             .hf_architecture = "Qwen3ForCausalLM",
             .gguf_architecture = "qwen3",
             .bias = Family::Bias::asked,
             .qk_norm = true,
             .window_is_asked = true},
      // Phi-3, 3.5 and 4 mini.
      Family{.name = "phi3",
             .hf_architecture = "Phi3ForCausalLM",
             .gguf_architecture = "phi3",
             .fused_qkv = true,
             .fused_gate_up = true},
      Family{.name = "glm4",
             .hf_architecture = "Glm4ForCausalLM",
             .gguf_architecture = "glm4",
             .bias = Family::Bias::asked_of_qkv,
             .post_norms = true,
             .fused_gate_up = true,
             .interleaved_hf = true,
             .interleaved_gguf = true},
  };
  return kFamilies;
}

namespace {

std::string names(std::string_view Family::*which) {
  std::string list;
  for (const Family& family : families())
    if (!(family.*which).empty()) list += (list.empty() ? "" : ", ") + std::string(family.*which);
  return list;
}

}  // namespace

std::string supported_hf_architectures() {
  return names(&Family::hf_architecture);
}

std::string supported_gguf_architectures() {
  return names(&Family::gguf_architecture);
}

}  // namespace mi::search
