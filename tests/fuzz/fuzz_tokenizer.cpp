// Any bytes as tokenizer.json: one error that names the file, or a tokenizer whose ids decode.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "libsearch/model/piece_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = mi::search::parse_tokenizer_json(text, "fuzz");
  if (!tokenizer) {
    if (tokenizer.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  for (const std::string_view sample :
       {std::string_view("a cab's 12 \xc3\xa9\xe4\xb8\xad \n\n  the<|endoftext|>"),
        std::string_view("\0 \x04\xf0\x9f\x98\x80", 7), text}) {
    const auto ids = (*tokenizer)->encode(sample);
    if (!ids) continue;  // not UTF-8, or an expression that ran into its limit
    for (const int32_t id : *ids) {
      if (id < 0 || id >= (*tokenizer)->vocab()) std::abort();
    }
    if (!(*tokenizer)->decode(*ids)) std::abort();
  }
  return 0;
}
