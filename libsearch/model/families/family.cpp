#include "libsearch/model/families/family.h"

#include <array>

namespace mi::search {

std::span<const ModelFamily> families() {
  static constexpr std::array kFamilies = {
      // Llama 2 and 3, Yi, SmolLM2. llama.cpp's converter turns the rows of q and k.
      ModelFamily{.name = "llama",
                  .hf_architecture = "LlamaForCausalLM",
                  .gguf_architecture = "llama",
                  .bias = ModelFamily::Bias::asked,
                  .interleaved_gguf = true},
      // The same layers; a GGUF file calls them llama.
      ModelFamily{
          .name = "mistral", .hf_architecture = "MistralForCausalLM", .gguf_architecture = ""},
      // Qwen2 and 2.5.
      ModelFamily{.name = "qwen2",
                  .hf_architecture = "Qwen2ForCausalLM",
                  .gguf_architecture = "qwen2",
                  .bias = ModelFamily::Bias::qkv,
                  .window_is_asked = true},
      ModelFamily{.name = "qwen3",
                  .hf_architecture = "Qwen3ForCausalLM",
                  .gguf_architecture = "qwen3",
                  .bias = ModelFamily::Bias::asked,
                  .qk_norm = true,
                  .window_is_asked = true},
      ModelFamily{.name = "qwen3moe",
                  .hf_architecture = "Qwen3MoeForCausalLM",
                  .gguf_architecture = "qwen3moe",
                  .bias = ModelFamily::Bias::asked,
                  .qk_norm = true,
                  .experts = true,
                  .window_is_asked = true},
      // Phi-3, 3.5 and 4 mini.
      ModelFamily{.name = "phi3",
                  .hf_architecture = "Phi3ForCausalLM",
                  .gguf_architecture = "phi3",
                  .fused_qkv = true,
                  .fused_gate_up = true},
      ModelFamily{.name = "glm4",
                  .hf_architecture = "Glm4ForCausalLM",
                  .gguf_architecture = "glm4",
                  .bias = ModelFamily::Bias::asked_of_qkv,
                  .norms = ModelFamily::Norms::glm,
                  .fused_gate_up = true,
                  .interleaved_hf = true,
                  .interleaved_gguf = true},
      ModelFamily{.name = "gemma2",
                  .hf_architecture = "Gemma2ForCausalLM",
                  .gguf_architecture = "gemma2",
                  .norms = ModelFamily::Norms::gemma,
                  .gelu = true,
                  .scaled_embedding = true,
                  .tied_by_default = true,
                  .full_every = 2},
      ModelFamily{.name = "gemma3",
                  .hf_architecture = "Gemma3ForCausalLM",
                  .gguf_architecture = "gemma3",
                  .hf_multimodal = "Gemma3ForConditionalGeneration",
                  .text_defaults = R"({"num_attention_heads": 8, "num_key_value_heads": 4,
                      "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072,
                      "rope_theta": 1000000.0, "query_pre_attn_scalar": 256,
                      "sliding_window": 4096})",
                  .qk_norm = true,
                  .norms = ModelFamily::Norms::gemma,
                  .gelu = true,
                  .scaled_embedding = true,
                  .tied_by_default = true,
                  .full_every = 6,
                  .local_theta = 10000},
  };
  return kFamilies;
}

namespace {

std::string names(std::string_view ModelFamily::*which) {
  std::string list;
  for (const ModelFamily& family : families())
    if (!(family.*which).empty()) list += (list.empty() ? "" : ", ") + std::string(family.*which);
  return list;
}

}  // namespace

std::string supported_hf_architectures() {
  return names(&ModelFamily::hf_architecture) + ", " + names(&ModelFamily::hf_multimodal);
}

std::string supported_gguf_architectures() {
  return names(&ModelFamily::gguf_architecture);
}

}  // namespace mi::search
