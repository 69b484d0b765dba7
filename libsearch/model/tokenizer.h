// Text to token ids and back, as the model was trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace mi::search {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Special tokens written in the text ("<|im_start|>") become their ids; nothing is added.
  [[nodiscard]] virtual Result<std::vector<int32_t>> encode(std::string_view text) const = 0;
  [[nodiscard]] virtual Result<std::string> decode(std::span<const int32_t> ids) const = 0;
  [[nodiscard]] virtual int vocab() const = 0;
};

}  // namespace mi::search
