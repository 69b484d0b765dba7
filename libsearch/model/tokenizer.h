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
  // What every text began with in training, such as <s>; may be empty. A model without it attends
  // otherwise, since much of the mass rests there.
  [[nodiscard]] virtual std::span<const int32_t> start() const = 0;
};

}  // namespace mi::search
