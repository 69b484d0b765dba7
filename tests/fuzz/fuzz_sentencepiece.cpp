// Any bytes as tokenizer.model: one error that names the file, or pieces whose ids are theirs.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "libsearch/model/sentencepiece.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto pieces = mi::search::SentencePiece::parse(bytes, size % 2 == 0, "fuzz");
  if (!pieces) {
    if (pieces.error().what.find("fuzz") == std::string::npos) std::abort();
    return 0;
  }
  constexpr std::string_view kWords[] = {
      "a  cab's 12... \xc3\xa9\xe4\xb8\xad \n\n\t<s> <0x0A> the \xef\xac\x81", " \xe2\x96\x81",
      "e\xcc\x81\xe2\x84\xab\xf0\x9f\x98\x80\xc2\xbd"};
  for (const bool first : {true, false}) {
    std::vector<int32_t> ids;
    if (!(*pieces)->encode(kWords, first, ids)) continue;
    for (const int32_t id : ids) {
      if (id < 0 || id >= (*pieces)->vocab()) std::abort();
      (void)(*pieces)->bytes(id);
    }
  }
  return 0;
}
